"""A checkpoint in the folders and files that other tools look for. Bytes are copied as they are; no weights go into memory.

SGLang: the released folder, whose model_index.json has the released keys alone. DiffSynth-Studio: the files by the patterns of
its MOVA examples (`video_dit/diffusion_pytorch_model-*.safetensors`, the audio tower, bridge and audio VAE in one file each);
picture VAE and text encoder it takes from elsewhere. ComfyUI: each expert as one file for `models/diffusion_models`, under the
names of a Wan 2.2 I2V model, which is what ComfyUI itself can load of MOVA.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.models.checkpoint_files import MODEL_INDEX, read_json, weights_stem
from phonofilm.models.layout import COMPONENT_CLASSES, CheckpointComponent, CheckpointLayout
from phonofilm.models.quantized import CONFIG_KEY
from phonofilm.models.shards import CHUNK_BYTES, TENSOR_DTYPES, TensorEntry

RELEASED_KEYS = (*COMPONENT_CLASSES, "_class_name", "_diffusers_version", "boundary_ratio", "audio_vae_type")
SAFETENSORS_NAMES = {dtype: name for name, dtype in TENSOR_DTYPES.items()}
DIFFSYNTH_SHARDED = ("video_dit", "video_dit_2")
DIFFSYNTH_WHOLE = ("audio_dit", "dual_tower_bridge", "audio_vae")
COMFYUI_FILES = {"video_dit": "high_noise", "video_dit_2": "low_noise"}


def export_for_tool(layout: CheckpointLayout, tool: str, folder: Path, name: str = "") -> Path:
    """Write what `tool` needs into `folder`, which must not exist. Raises InputError for an unknown tool or 8-bit weights.

    name: of the model, for tools that show file names; by default the checkpoint's folder's, which in a cache is a hash.
    """
    if tool not in TOOLS:
        raise InputError(f"tool {tool!r} is unknown; use one of {', '.join(TOOLS)}")
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another folder")
    if packed := [one.name for one in layout.components.values() if CONFIG_KEY in one.config]:
        raise InputError(
            f"{packed[0]} of this checkpoint has quantised weights, which only Phonofilm reads; export the one it was made of"
        )
    with replacing(folder) as temporary:
        temporary.mkdir()
        TOOLS[tool](layout, temporary, name or layout.folder.name)
    return folder


def write_merged(entries: Mapping[str, TensorEntry], file: Path) -> None:
    """The tensors, which may lie in several files, as one safetensors file, byte by byte."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, entry in entries.items():
        offsets = [end, end := end + entry.nbytes]
        header[key] = {"dtype": SAFETENSORS_NAMES[entry.dtype], "shape": entry.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as target:
        target.write(struct.pack("<Q", len(text)) + text)
        for entry in entries.values():
            with entry.file.open("rb") as source:
                source.seek(entry.start)
                for first in range(0, entry.nbytes, CHUNK_BYTES):
                    target.write(source.read(min(CHUNK_BYTES, entry.nbytes - first)))


def _for_sglang(layout: CheckpointLayout, folder: Path, model: str) -> None:
    index = {key: value for key, value in read_json(layout.folder / MODEL_INDEX).items() if key in RELEASED_KEYS}
    (folder / MODEL_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for name in COMPONENT_CLASSES:
        if (layout.folder / name).is_dir():
            shutil.copytree(layout.folder / name, folder / name)


def _for_diffsynth(layout: CheckpointLayout, folder: Path, model: str) -> None:
    for name in (*DIFFSYNTH_SHARDED, *DIFFSYNTH_WHOLE):
        if (component := layout.components.get(name)) is None:
            continue
        (folder / name).mkdir()
        shutil.copy(component.folder / "config.json", folder / name)
        files = sorted({entry.file for entry in component.entries.values()})
        if name in DIFFSYNTH_WHOLE:
            write_merged(component.entries, folder / name / f"{weights_stem(component.class_name)}.safetensors")
        elif len(files) > 1:
            for file in files:
                shutil.copy(file, folder / name)
        else:
            shutil.copy(files[0], folder / name / _shard_name(component))


def _for_comfyui(layout: CheckpointLayout, folder: Path, model: str) -> None:
    (folder / "diffusion_models").mkdir()
    for name, noise in COMFYUI_FILES.items():
        if (component := layout.components.get(name)) is not None:
            write_merged(component.entries, folder / "diffusion_models" / f"{model}_{noise}.safetensors")


def _shard_name(component: CheckpointComponent) -> str:
    """A single file's name as the pattern of shards finds it."""
    return f"{weights_stem(component.class_name)}-00001-of-00001.safetensors"


TOOLS: Mapping[str, Callable[[CheckpointLayout, Path, str], None]] = {
    "sglang": _for_sglang,
    "diffsynth": _for_diffsynth,
    "comfyui": _for_comfyui,
}
