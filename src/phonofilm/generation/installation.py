"""What this machine and this installation have, as rows of text: versions, devices, attention backends, codecs. Only looks."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import av
import psutil
import torch
from av.codec.codec import UnknownCodecError

from phonofilm import __version__
from phonofilm.errors import InputError
from phonofilm.generation.placement.attention import attention_backend_name, attention_backends
from phonofilm.generation.placement.devices import choose_placement
from phonofilm.units import format_size

PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "tokenizers"),
    *("av", "pillow", "numpy", "peft", "matplotlib"),
)
CODECS = {"libx264": "mp4 picture", "aac": "mp4 sound", "libvpx-vp9": "webm picture", "libopus": "webm sound"}


def package_versions() -> list[tuple[str, str | None]]:
    """Ours, Python's, and those of the packages we stand on; None for one that is not installed."""
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [("phonofilm", __version__), ("python", system), *((name, _version(name)) for name in PACKAGES)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def device_rows() -> list[tuple[str, str, str]]:
    """Every device: its name here, what it is, its memory."""
    memory = psutil.virtual_memory()
    cores = f"{psutil.cpu_count(logical=False) or '?'} cores, {torch.get_num_threads()} threads used by PyTorch"
    rows = [("cpu", cores, f"{format_size(memory.total)}, {format_size(memory.available)} free")]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        about = torch.cuda.get_device_properties(index)
        what = f"{about.name}, sm_{about.major}{about.minor}"
        rows.append((f"cuda:{index}", what, f"{format_size(total)}, {format_size(free)} free"))
    if torch.backends.mps.is_available():
        rows.append(("mps", "Apple GPU", f"{format_size(torch.mps.recommended_max_memory())} recommended at most"))
    return rows


def attention_states() -> dict[str, list[str]]:
    """Attention backends by what can be done with them; installed ones are tried, where and as `generate` would use them."""
    machine = choose_placement()
    states: dict[str, list[str]] = {"work here": [], "installed, not for this device": [], "not installed": []}
    for name, missing in attention_backends().items():
        if missing is not None:
            states["not installed"].append(name)
            continue
        try:
            attention_backend_name(name, machine.device, machine.dtype)
        except InputError:
            states["installed, not for this device"].append(name)
        else:
            states["work here"].append(name)
    return states


def codec_rows() -> list[tuple[str, str, bool]]:
    """Every encoder that clips are written with: its name, what for, and whether it is there."""
    return [(codec, use, _has_codec(codec)) for codec, use in CODECS.items()]


def _has_codec(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
