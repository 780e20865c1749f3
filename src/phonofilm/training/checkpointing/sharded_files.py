"""Tensors of which every process has a shard, in a checkpoint's `sharded/`: every process writes and reads its own.

The format is torch.distributed.checkpoint's, which does not mind how many processes read it. Nothing here holds more of
the model than its process does anyway, but for READ_BACK bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from phonofilm.errors import CheckpointError
from phonofilm.parallel.sharded_tensors import any_sharded, local_part
from phonofilm.training.checkpointing.checkpointer import RunTensors
from phonofilm.training.checkpointing.process_agreement import raise_together
from phonofilm.training.checkpointing.verification import refuse_other_parameters

SHARDED = "sharded"
READ_BACK = 10**9
WEIGHTS, AVERAGE, OPTIMIZER = "weights.", "average.", "optimizer."


def is_sharded_checkpoint(checkpoint: Path) -> bool:
    """Whether its weights lie in shards, as processes that had shards of them wrote them."""
    return (checkpoint / SHARDED).is_dir()


def named_tensors(tensors: RunTensors) -> dict[str, Tensor]:
    """Every tensor of the run by one name: weights, their average, and what the optimizers keep of each."""
    named = {f"{WEIGHTS}{name}": parameter.detach() for name, parameter in tensors.parameters.items()}
    named |= {f"{AVERAGE}{name}": tensor for name, tensor in (tensors.average or {}).items()}
    for name, parameter in tensors.parameters.items():
        for optimizer in tensors.optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                named[f"{OPTIMIZER}{name}.{key}"] = value
    return named


def save_sharded_tensors(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write FOLDER/sharded, read it back and compare. Every process calls it with its shards, and all fail together.

    Raises CheckpointError when a weight is not finite, and when something cannot be written or reads back differently.
    """
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(local_part(tensor)).all()]
    raise_together(f"refusing to save: {bad[0]} holds values that are not finite" if bad else None)
    with _named_errors(folder, "cannot be written"):
        save(dict(tensors), checkpoint_id=folder / SHARDED)
    different = None
    for batch in _batches(tensors):
        again = {name: torch.empty_like(tensor) for name, tensor in batch.items()}
        load_sharded_tensors(again, folder)
        for name, tensor in batch.items():
            if not torch.equal(local_part(again[name]), local_part(tensor)):
                different = f"{name} reads back differently from what was written; is the disk full or failing?"
    raise_together(different)


def load_sharded_tensors(tensors: Mapping[str, Tensor], checkpoint: Path, *, alone: bool = False) -> None:
    """Read into these tensors, whole ones or shards, whatever they were when they were saved. Every process calls it.

    `alone`: this process needs no other.
    """
    with _named_errors(checkpoint, "cannot be read"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # said whenever `alone` is
        load(dict(tensors), checkpoint_id=checkpoint / SHARDED, no_dist=alone)


def saved_names(checkpoint: Path) -> dict[str, TensorStorageMetadata]:
    """What `sharded/` holds, by name."""
    with _named_errors(checkpoint, "cannot be read"):
        known = FileSystemReader(checkpoint / SHARDED).read_metadata().state_dict_metadata
    return cast("dict[str, TensorStorageMetadata]", known)


def load_shards(checkpoint: Path, tensors: RunTensors) -> None:
    """Put a checkpoint's tensors into weights, average and optimizers.

    Raises CheckpointError when it trains other parameters.
    """
    known = saved_names(checkpoint)
    saved = [name.removeprefix(WEIGHTS) for name in known if name.startswith(WEIGHTS)]
    refuse_other_parameters(checkpoint, saved, tensors.parameters)
    kept: dict[str, list[str]] = {}
    for name in known:
        if name.startswith(OPTIMIZER):
            parameter_name, _, key = name.removeprefix(OPTIMIZER).rpartition(".")
            kept.setdefault(parameter_name, []).append(key)
    for optimizer in tensors.optimizers:
        mine = {p for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in tensors.parameters.items():
            if parameter in mine:
                keys = kept.get(name, [])
                if keys:
                    prefix = f"{OPTIMIZER}{name}."
                    optimizer.state[parameter] = {key: _room(known[prefix + key], parameter) for key in keys}
    average = tensors.average if any(name.startswith(AVERAGE) for name in known) else None
    wanted = named_tensors(RunTensors(tensors.parameters, average, tensors.optimizers))
    load_sharded_tensors(wanted, checkpoint, alone=not any_sharded(tensors.parameters))


class SavedWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint (their average, if one was kept), each put together from its parts when it is asked for."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        known = saved_names(checkpoint)
        self._prefix = AVERAGE if any(name.startswith(AVERAGE) for name in known) else WEIGHTS
        self._known = {n.removeprefix(self._prefix): entry for n, entry in known.items() if n.startswith(self._prefix)}
        self._ready: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._ready:
            self._ready = self._read_from(name)
        return self._ready[name]

    def _read_from(self, name: str) -> dict[str, Tensor]:
        """The tensor and those that follow it, READ_BACK bytes together at most: each reading has a cost of its own."""
        names = list(self._known)
        following = {
            n: torch.empty(self._known[n].size, dtype=self._known[n].properties.dtype, device="meta")
            for n in names[names.index(name) :]
        }
        room = {n: torch.empty_like(tensor, device="cpu") for n, tensor in next(_batches(following)).items()}
        load_sharded_tensors({f"{self._prefix}{n}": tensor for n, tensor in room.items()}, self._checkpoint, alone=True)
        return room

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return name in self._known


def _room(saved: TensorStorageMetadata, parameter: nn.Parameter) -> Tensor:
    """Memory for one tensor of an optimizer's state: cut as its parameter is, or whole where it has another shape."""
    if saved.size == parameter.shape:
        return torch.zeros_like(parameter.detach(), dtype=saved.properties.dtype)
    return torch.zeros(saved.size, dtype=saved.properties.dtype, device=parameter.device)


def _batches(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors in their order, READ_BACK bytes of the whole at most at once: the same cuts in every process."""
    batch: dict[str, Tensor] = {}
    held = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if batch and held + size > READ_BACK:
            yield batch
            batch, held = {}, 0
        batch[name] = tensor
        held += size
    if batch:
        yield batch


@contextmanager
def _named_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (CheckpointException, OSError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} {what}: {error}") from error
