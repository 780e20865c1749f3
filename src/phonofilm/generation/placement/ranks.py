"""Several devices: whether they were requested, and starting the ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from phonofilm.errors import InputError
from phonofilm.generation.placement.hardware import HardwareOptions, requested_placement
from phonofilm.generation.placement.offload import MemoryLimits, refuse_what_changes_nothing
from phonofilm.generation.placement.threads import threads
from phonofilm.parallel.launcher import launch, start_ranks
from phonofilm.parallel.parallel_session import ParallelConfig, ParallelSession
from phonofilm.parallel.rank import Rank, device_of, launcher_rank, process_group
from phonofilm.parallel.started_ranks import StartedRanks

Result = TypeVar("Result")


def parallel_config(hardware: HardwareOptions) -> ParallelConfig | None:
    """How several devices share a clip, or None for one. Raises InputError for options that would change nothing."""
    if hardware.gpus < 1:
        raise InputError(f"gpus={hardware.gpus} is less than 1")
    if launcher_rank(hardware.gpus) is not None or hardware.gpus > 1:
        return ParallelConfig(
            hardware.gpus, hardware.ulysses_degree, hardware.ring_degree, hardware.cfg_parallel, hardware.shard_weights
        )
    options = {
        "ulysses_degree": hardware.ulysses_degree not in (None, 1),
        "ring_degree": hardware.ring_degree not in (None, 1),
        "cfg_parallel": hardware.cfg_parallel,
        "shard_weights": hardware.shard_weights,
    }
    if useless := [name for name, given in options.items() if given]:
        raise InputError(f"{'= and '.join(useless)}= would change nothing on one device; use gpus=N")
    return None


def refuse_before_starting(several: ParallelConfig, hardware: HardwareOptions) -> None:
    """Raises InputError for options that no rank could take: here, rather than after every rank has imported PyTorch."""
    rank = launcher_rank() or Rank(0, several.gpus, 0, "")
    session = ParallelSession(rank, device_of(rank, hardware.device), several)
    refuse_what_changes_nothing(requested_placement(hardware, session), MemoryLimits.of(hardware))


def on_ranks(several: ParallelConfig, device: str, work: Callable[..., Result], *arguments: Any) -> Result:
    """`work(session, *arguments)` on every rank: as the rank that torchrun made this process, else in processes of our own.

    Returns what it returned here, or on the first of our own ranks.
    """
    rank = launcher_rank(several.gpus)
    if rank is None:
        _require_devices(several, device)
        result: Result = launch(several.gpus, _as_rank, several, device, work, *arguments)
        return result
    return _as_rank(rank, several, device, work, *arguments)


def start_on_ranks(
    ranks: StartedRanks, several: ParallelConfig, device: str, work: Callable[..., object], *arguments: Any
) -> None:
    """Start `work(session, *arguments)` on ranks of our own, which the caller collects and ends."""
    _require_devices(several, device)
    start_ranks(ranks, several.gpus, _as_rank, several, device, work, *arguments)


def planning_session(several: ParallelConfig, device: str) -> ParallelSession:
    """The first rank as far as a process that only plans needs it. Raises InputError for devices that are not here."""
    _require_devices(several, device)
    rank = Rank(0, several.gpus, 0, "")
    return ParallelSession(rank, device_of(rank, device), several)


def _require_devices(several: ParallelConfig, device: str) -> None:
    # The last one's device: if it is there, all are.
    device_of(Rank(several.gpus - 1, several.gpus, several.gpus - 1, ""), device)


def _as_rank(rank: Rank, several: ParallelConfig, device: str, work: Callable[..., Result], *arguments: Any) -> Result:
    here = device_of(rank, device)
    share = max(1, torch.get_num_threads() // rank.world) if here.type == "cpu" else torch.get_num_threads()
    with threads(share), process_group(rank, here):
        return work(ParallelSession(rank, here, several), *arguments)
