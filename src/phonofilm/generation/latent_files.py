"""Latents as a file: safetensors with both tracks and the settings that made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonofilm.errors import InputError, MediaError
from phonofilm.files import replacing
from phonofilm.media.metadata import from_text, to_text
from phonofilm.untrusted import file_fault, shown

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
_SETTINGS = "phonofilm"
TRACKS = ("video_latents", "audio_latents")


def is_latents(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def save_latents(video: Tensor, audio: Tensor, metadata: Mapping[str, Any], path: Path) -> None:
    """video [b,c,f,h,w] and audio [b,c,t] as float32 tensors video_latents and audio_latents; whole, or not at all."""
    from safetensors.torch import save

    tensors = dict(zip(TRACKS, (video.contiguous().cpu(), audio.contiguous().cpu()), strict=True))
    check_finite(tensors, str(path))
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {_SETTINGS: to_text(metadata)}))


def read_latents(path: Path) -> dict[str, Tensor]:
    """Both tracks of a file of latents. Raises MediaError when one is missing, the file is damaged or a number not finite."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in TRACKS}
    check_finite(tensors, str(path))
    return tensors


def read_latent_metadata(path: Path) -> dict[str, Any]:
    """The settings in a file of latents. Raises MediaError when it has none or is damaged."""
    with _opened(path) as file:
        settings = from_text((file.metadata() or {})[_SETTINGS])
    if settings is None:
        raise MediaError(f"{path} holds settings that cannot be read")
    return settings


def check_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raises MediaError when a number is NaN or infinite: nothing can be made of it, whatever kind of file it goes into."""
    import torch

    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise MediaError(f"{origin}: {name} holds NaN or infinity, and was not written")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if (fault := file_fault(path)) is not None:
        raise InputError(f"no file at {shown(path)}: {fault}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, LookupError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise MediaError(f"{path} holds no latents with settings: {shown(error)}") from error
