"""Checkpoints of a training whose weights are cut over processes: every process writes and reads its own part.

Beside the small `state.pt` lies `sharded/`, in the format of torch.distributed.checkpoint, which does not mind how many
processes read it. Nothing here holds more of the model than its process does anyway, but for READ_BACK bytes.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from phonofilm.errors import CheckpointError, PhonofilmError
from phonofilm.files import replacing
from phonofilm.parallel.sharded_tensors import any_sharded, local_part
from phonofilm.training.checkpointing.checkpoints import (
    SHARDED,
    STEP_PREFIX,
    commit_checkpoint,
    refuse_other_parameters,
    write_state,
)

READ_BACK = 10**9
WEIGHTS, AVERAGE, OPTIMIZER = "weights.", "average.", "optimizer."


def flat_state(
    parameters: Mapping[str, nn.Parameter], average: Mapping[str, Tensor] | None, optimizers: Sequence[Any]
) -> dict[str, Tensor]:
    """Every tensor of the run by one name: weights, their average, and what the optimizers keep of each."""
    state = {f"{WEIGHTS}{name}": parameter.detach() for name, parameter in parameters.items()}
    state |= {f"{AVERAGE}{name}": tensor for name, tensor in (average or {}).items()}
    for name, parameter in parameters.items():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                state[f"{OPTIMIZER}{name}.{key}"] = value
    return state


def save_sharded_tensors(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write FOLDER/sharded, read it back and compare. Every process calls it with its parts, and all fail together.

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
    """Read into these tensors, whole ones or parts, whatever they were when they were saved. Every process calls it.

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


def load_sharded_checkpoint(
    checkpoint: Path,
    parameters: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor] | None,
    optimizers: Sequence[Any],
) -> None:
    """Put a checkpoint's tensors into weights, average and optimizers.

    Raises CheckpointError when it trains other parameters.
    """
    known = saved_names(checkpoint)
    saved = [name.removeprefix(WEIGHTS) for name in known if name.startswith(WEIGHTS)]
    refuse_other_parameters(checkpoint, saved, parameters)
    for optimizer in optimizers:
        mine = {p for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in parameters.items():
            if parameter in mine:
                prefix = f"{OPTIMIZER}{name}."
                keys = [key.removeprefix(prefix) for key in known if key.startswith(prefix)]
                if keys:
                    optimizer.state[parameter] = {key: _room(known[prefix + key], parameter) for key in keys}
    kept = average if any(name.startswith(AVERAGE) for name in known) else None
    load_sharded_tensors(flat_state(parameters, kept, optimizers), checkpoint, alone=not any_sharded(parameters))


def raise_together(problem: str | None) -> None:
    """Raise CheckpointError in every process with the first problem that any of them has. Every process calls it."""
    told: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(told, problem)
    for number, one in enumerate(told):
        if one is not None:
            raise CheckpointError(f"{one} (process {number})")


@contextmanager
def on_first_process() -> Iterator[bool]:
    """A block that only process 0 has something to do in (it is told True); if it fails there, it fails in all."""
    first, problem = distributed.get_rank() == 0, None
    try:
        yield first
    except (PhonofilmError, OSError) as error:
        problem = f"{error}"
    raise_together(problem)


def save_sharded_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep_last: int
) -> Path:
    """As `save_whole_checkpoint`, by all processes together. Raises CheckpointError in all of them, leaving older ones alone."""
    home = folder / "checkpoints"
    target = home / f"{STEP_PREFIX}{step:08d}"
    fresh = home / f".writing-{target.name}"
    with on_first_process() as first:
        if first:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
    save_sharded_tensors(tensors, fresh)
    with on_first_process() as first:
        if first:
            write_state(fresh, step, state)
            commit_checkpoint(fresh, target, keep_last)
    return target


@contextmanager
def replacing_in_all_processes(target: Path) -> Iterator[Path]:
    """As `replacing`, with the same temporary path in every process. A file that several of them write is the same in all."""
    stack, path = ExitStack(), None
    with on_first_process() as first:
        if first:
            path = stack.enter_context(replacing(target))
    try:
        yield Path(broadcast_object_list([None if path is None else str(path)])[0])
    except BaseException:
        stack.__exit__(*sys.exc_info())
        raise
    raise_together(None)  # before it is renamed, everyone has written
    with on_first_process():
        stack.close()


class SavedWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint (their average, if one was kept), each put together from its parts when it is asked for."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        known = saved_names(checkpoint)
        self._prefix = AVERAGE if any(name.startswith(AVERAGE) for name in known) else WEIGHTS
        self._known = {n.removeprefix(self._prefix): told for n, told in known.items() if n.startswith(self._prefix)}
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


def _room(told: TensorStorageMetadata, parameter: nn.Parameter) -> Tensor:
    """Memory for one tensor of an optimizer's state: cut as its parameter is, or whole where it has another shape."""
    if told.size == parameter.shape:
        return torch.zeros_like(parameter.detach(), dtype=told.properties.dtype)
    return torch.zeros(told.size, dtype=told.properties.dtype, device=parameter.device)


def _batches(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors in their order, READ_BACK bytes of the whole at most at once: the same cuts in every process."""
    batch: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if batch and sum(t.numel() * t.element_size() for t in [*batch.values(), tensor]) > READ_BACK:
            yield batch
            batch = {}
        batch[name] = tensor
    if batch:
        yield batch


@contextmanager
def _named_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (CheckpointException, OSError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} {what}: {error}") from error
