"""Writing a LoRA: to a temporary name, read back and compared, then renamed. Our own layout; the others are in exporting.py."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError
from phonofilm.files import replacing
from phonofilm.lora.adapter import Adapter, LoraFile, check_numbers, check_trained
from phonofilm.lora.ours import header_of, tensors_of
from phonofilm.lora.reading import read_for_layers
from phonofilm.models.checksums import digest_file, digest_line, write_checksums

logger = logging.getLogger(__name__)


def save_lora(lora: LoraFile, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes our own layout, one .safetensors. Raises InputError and CheckpointError as `write_checked`."""
    target = Path(path)
    if target.suffix != ".safetensors":
        raise InputError(f"{target} should end in .safetensors")

    def write(temporary: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for component, adapters in lora.adapters.items():
            tensors |= tensors_of(adapters, f"{component}.", ".lora_A.weight", ".lora_B.weight")
        save_lora_tensors(tensors, temporary, header_of(lora))

    return write_checked(lora, target, write, overwrite)


def write_checked(lora: LoraFile, target: Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Has `write` make a file or folder beside `target`, reads it back, compares, and only then renames it.

    Raises InputError when `target` exists and `overwrite` is off, is a folder, or cannot be written; CheckpointError when
    the LoRA is empty, holds NaN, has an untrained component (every lora_B zero), or does not come back as it was.
    """
    check_numbers(lora, f"the LoRA for {target}")
    check_trained(lora, f"the LoRA for {target}")
    if target.is_dir() or (target.exists() and not overwrite):
        way = "choose another name" if target.is_dir() else "choose another name or allow overwriting"
        raise InputError(f"{target} exists already; {way}")
    with replacing(target, error=InputError, keep_suffix=True) as temporary:
        write(temporary)
        if temporary.is_dir():
            write_checksums(temporary)
        if not _came_back(lora, read_for_layers(temporary, _layers_of(lora))):
            raise CheckpointError(
                f"{target} was not kept: what was written does not read back as it was; is the disk full?"
            )
        digest_file(target).unlink(missing_ok=True)  # whatever ends this now, no digest of another file is left
    if not target.is_dir():
        with replacing(digest_file(target), error=InputError) as temporary:
            temporary.write_text(digest_line(target), encoding="utf-8")
    logger.info("%s: %d adapters written and read back", target, sum(1 for _ in lora.items()))
    return target


def _layers_of(lora: LoraFile) -> dict[str, dict[str, tuple[int, int]]]:
    """The layers that `lora` adapts, with their sizes: enough of a model to read kohya's names back."""
    return {
        component: {path: (adapter.up.shape[0], adapter.down.shape[1]) for path, adapter in adapters.items()}
        for component, adapters in lora.adapters.items()
    }


def _came_back(lora: LoraFile, read: LoraFile) -> bool:
    """Whether the same adapters came back, in every bit but the rounding of an up matrix folded for the original."""
    mine = {(c, p): a for c, p, a in lora.items()}
    theirs = {(c, p): a for c, p, a in read.items()}
    return (
        mine.keys() == theirs.keys()
        and dict(lora.metadata) == dict(read.metadata)
        and all(_same(adapter, theirs[key]) for key, adapter in mine.items())
    )


def _same(one: Adapter, other: Adapter) -> bool:
    if one.equals(other):
        return True
    error = (one.up.float() - other.up.float()).abs().max()
    near = error <= 4 * torch.finfo(one.up.dtype).eps * one.up.float().abs().max()
    return one.alpha == other.alpha and torch.equal(one.down, other.down) and bool(near)


def save_lora_tensors(tensors: Mapping[str, Tensor], path: Path, header: Mapping[str, str]) -> None:
    """A safetensors file with this metadata, the same byte for byte whenever it is written."""
    # A copy of each: tensors that share memory are refused by the format.
    copies = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    save_file(copies, path, {**header})
    _sort_metadata(path)
    path.chmod(0o644)  # safetensors makes files that only their owner can read; a LoRA is made to be passed on


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order, which its writer leaves to chance. The header stays as long as it was."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if (
            len(text) > length
        ):  # characters that its writer writes shorter: better in another order than over the weights
            return
        file.seek(8)
        file.write(text.ljust(length))
