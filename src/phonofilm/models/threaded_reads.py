"""Weights read by several threads straight into memory that the caller has allocated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from io import FileIO

import torch
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.models.building import place_tensors
from phonofilm.models.layout import CheckpointComponent
from phonofilm.models.shards import CHUNK_BYTES, TensorEntry


def assign_memory(module: nn.Module, memory: Mapping[nn.Parameter, Tensor]) -> list[nn.Parameter]:
    """Replace the parameters that are keys of `memory` (on the meta device, say) by ones that live in their tensors.

    Returns the new ones. A parameter that several places share stays shared.
    """
    assigned: dict[nn.Parameter, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None and parameter in memory:
                if parameter not in assigned:
                    assigned[parameter] = type(parameter)(memory[parameter], requires_grad=parameter.requires_grad)
                owner._parameters[name] = assigned[parameter]
    return list(assigned.values())


@dataclass(frozen=True)
class TensorRead:
    """One tensor to read, and where to."""

    entry: TensorEntry
    target: Tensor


def tensor_reads(component: CheckpointComponent, module: nn.Module, wanted: Collection[Tensor]) -> Iterator[TensorRead]:
    """What it takes to read the `wanted` tensors of `module`, a video or audio tower or a bridge, from its files.

    Raises CheckpointError when the weights do not fit the module.
    """
    chosen = {id(tensor) for tensor in wanted}
    tensors = module.state_dict(keep_vars=True)
    for placement in place_tensors(component.name, module, component.entries):
        (entry,) = placement.sources
        target = tensors[placement.names[0]]
        if id(target) in chosen:
            yield TensorRead(entry, target.detach())


def fill(wanted: Collection[TensorRead], threads: int, progress: Callable[[int], None]) -> None:
    """Read everything, converting to the target's dtype on the way. `progress` is called with the bytes of each tensor read.

    Needs no memory but the targets and a small buffer per thread. Raises CheckpointError when a file changed since its
    header was read; the other threads stop after the tensor they are at.
    """
    with ThreadPoolExecutor(threads) as pool:
        jobs = {pool.submit(_read, one.entry, one.target): one.entry.nbytes for one in wanted}
        try:
            for job in as_completed(jobs):
                job.result()
                progress(jobs[job])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _read(entry: TensorEntry, target: Tensor) -> None:
    flat = target.view(-1)
    with FileIO(entry.file) as stream:
        stream.seek(entry.start)
        if flat.dtype == entry.dtype and flat.device.type == "cpu":
            _read_exactly(stream, flat.view(torch.uint8), entry)
            return
        step = CHUNK_BYTES // entry.dtype.itemsize
        buffer = torch.empty(min(CHUNK_BYTES, entry.nbytes), dtype=torch.uint8)
        for first in range(0, flat.numel(), step):
            part = flat[first : first + step]
            piece = buffer[: part.numel() * entry.dtype.itemsize]
            _read_exactly(stream, piece, entry)
            part.copy_(piece.view(entry.dtype))


def _read_exactly(stream: FileIO, target: Tensor, entry: TensorEntry) -> None:
    """The next bytes of `stream` into target, uint8 [n] on the host. Reading releases the interpreter's lock."""
    rest = memoryview(target.numpy())  # type: ignore[arg-type]
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise CheckpointError(f"{entry.file} ended while {entry.key} was read; download it again")
        rest = rest[count:]
