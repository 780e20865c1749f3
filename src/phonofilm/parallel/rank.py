"""A rank: one of several processes that work together, its device, and the group in which it exchanges. Starting: launcher.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from phonofilm.errors import InputError, PhonofilmError

# How long a rank waits for the others in one exchange. Loading, decoding and writing a clip happen between exchanges.
PATIENCE = timedelta(minutes=20)


class RankError(PhonofilmError):
    """Work shared by ranks cannot go on: it failed here, and the others wait. Never something to continue after."""


@dataclass(frozen=True)
class Rank:
    """One of `world` processes that work on the same clip; `local` is its number on its machine."""

    number: int
    world: int
    local: int
    rendezvous: str

    @property
    def is_first(self) -> bool:
        """The one that reports and writes."""
        return self.number == 0


def launcher_rank(gpus: int = 1) -> Rank | None:
    """This process's rank if torchrun (or anything that sets its variables for more than one process) started it.

    Raises InputError when it started another number of processes than `gpus`, unless that is 1.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return None
    if gpus not in (1, world):
        raise InputError(f"{gpus} devices were asked for, and {world} ranks were started; leave gpus out")
    return Rank(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")), "env://")


def device_of(rank: Rank, name: str) -> torch.device:
    """The device of a rank: for "cpu" the host, for "auto" and "cuda" GPU number `local`. Raises InputError without it."""
    if name == "cpu":
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise InputError(f"device {name} is one device, and {rank.world} ranks need one each; use cuda or cpu")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if rank.local >= here:
        raise InputError(
            f"{rank.world} devices were asked for, and PyTorch sees {here} CUDA devices here; "
            + ("use fewer" if here else "device=cpu tries it on the host")
        )
    return torch.device("cuda", rank.local)


@contextmanager
def process_group(rank: Rank, device: torch.device, patience: timedelta = PATIENCE) -> Iterator[None]:
    """The process group, for as long as the context lasts: NCCL between GPUs, gloo between host processes.

    `patience`: how long a rank waits for the others in one exchange.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=rank.rendezvous,
        rank=rank.number,
        world_size=rank.world,
        timeout=patience,
    )
    yield
    # Only after success: with a rank gone, leaving in good order would wait for it.
    dist.destroy_process_group()


def broadcast_number(number: int) -> int:
    """The first rank's value of a number (below 2^63), on every rank."""
    value = torch.tensor(number, dtype=torch.int64)
    dist.broadcast(value, src=0)
    return int(value)
