"""What two ranks do on one device: they share a step over gloo, which takes tensors of a card by way of the host."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from phonofilm.parallel.degrees import Degrees
from phonofilm.parallel.mesh import make_mesh
from phonofilm.parallel.parallel_engine import ParallelEngine
from phonofilm.parallel.rank import Rank, process_group
from phonofilm.parallel.sequence_denoiser import shard_sequence
from phonofilm.parallel.sequence_shard import SequenceShard
from tests.gpu.small_models import apart, experts, resident, step, tensors


def share_a_step(rank: Rank, device_name: str, degrees: dict[str, int]) -> float:
    """How far the shared step is from the resident one."""
    torch.set_num_threads(1)
    device = torch.device(device_name)
    dist.init_process_group(
        "gloo",
        init_method=rank.rendezvous,
        rank=rank.number,
        world_size=rank.world,
        timeout=timedelta(minutes=2),
    )
    high, low = experts()
    expected = resident(high, device)
    for expert in (high, low):
        expert.to(device)
    mesh = make_mesh(Degrees(**degrees), device)
    members = shard_sequence([high, low], SequenceShard(mesh))
    engine = ParallelEngine({"high": members[0], "low": members[1]}, mesh)
    inputs, conditionings = step(device)
    error = apart(tensors(engine("high", inputs, conditionings, "high")), expected)
    dist.destroy_process_group()
    return error


def reduce_alone(rank: Rank, *_: Any) -> float:
    """A sum over the ranks of the product's own process group: NCCL on cards."""
    device = torch.device("cuda", rank.local)
    with process_group(rank, device):
        total = torch.ones(3, device=device)
        dist.all_reduce(total)
        return float(total.sum())
