"""Names of a checkpoint folder's files: JSON, weights and their shards. Nothing here opens a tensor or needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phonofilm.errors import CheckpointError
from phonofilm.untrusted import read_json_file, shown

MODEL_INDEX = "model_index.json"
# A checkpoint's own student of few steps: a LoRA that was distilled from exactly these weights.
STUDENT_FILE = "few_steps.safetensors"
INDEX_SUFFIX = ".index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file whose top is an object. Raises CheckpointError when it is missing, unreadable or anything else."""
    try:
        content = read_json_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__}; expected an object")
    return content


def weight_files(folder: Path, stem: str) -> tuple[Path, ...]:
    """The safetensors files of a component: `stem`.safetensors, or all the shards its index names.

    Like diffusers, an index wins over a single file beside it. Raises CheckpointError when there are none, when a shard is
    missing, or when all there is are pickles: those can run code as they are opened and are never read.
    """
    index, single = folder / f"{stem}.safetensors{INDEX_SUFFIX}", folder / f"{stem}.safetensors"
    if not index.is_file():
        if single.is_file():
            return (single,)
        raise CheckpointError(_why_no_weights(folder, stem))
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; it should say which shard holds which tensor")
    names = sorted({str(name) for name in weight_map.values()})
    if strange := [name for name in names if not _is_shard_name(name)]:
        raise CheckpointError(f"{index} names {shown(strange[0])!r}; expected safetensors files in the same folder")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise CheckpointError(
            f"{len(missing)} of {len(names)} shards that {index} names are missing: {listed(missing)}; "
            "download them again (phonofilm models download resumes where it stopped)"
        )
    return tuple(folder / name for name in names)


def _is_shard_name(name: str) -> bool:
    """A plain file name, which leads to no other folder."""
    return Path(name).name == name and name.endswith(".safetensors") and len(name) <= 200 and "\0" not in name


def weights_stem(class_name: str) -> str:
    """What a component's weight files are called: transformers and diffusers differ."""
    return "model" if class_name == "UMT5EncoderModel" else "diffusion_pytorch_model"


def listed(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = [shown(name) for name in names[:limit]] + list(names[limit:])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _why_no_weights(folder: Path, stem: str) -> str:
    expected = f"expected {stem}.safetensors, or {stem}.safetensors{INDEX_SUFFIX} and its shards"
    if not folder.is_dir():
        return f"the folder {folder} is missing; {expected} in it"
    present = sorted(path.name for path in folder.iterdir())
    if pickles := [name for name in present if name.endswith(PICKLE_SUFFIXES)]:
        return (
            f"{folder} has its weights only as a pickle ({listed(pickles)}), which can run code when opened and is "
            f"refused; {expected}: convert it with the tool that made it"
        )
    if shards := [name for name in present if name.endswith(".safetensors")]:
        return f"{folder} has {listed(shards)} but no {stem}.safetensors{INDEX_SUFFIX}; {expected}"
    return f"{folder} has no weights; {expected}"
