"""The ranks as a mesh of CFG x ring x Ulysses, and each rank's place on every side of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import ProcessGroup

from phonofilm.parallel.degrees import Degrees

SIDES = ("cfg", "ring", "ulysses")


@dataclass(frozen=True)
class Side:
    """The ranks along one side of the mesh through this rank, and this rank's place among them."""

    group: ProcessGroup
    size: int
    place: int

    def gather(self, ours: Tensor) -> list[Tensor]:
        """Everyone's tensor of the same shape, in the order of their places."""
        every = [torch.empty_like(ours) for _ in range(self.size)]
        dist.all_gather(every, ours, group=self.group)
        return every


@dataclass(frozen=True)
class Mesh:
    """`sequence` is ring and ulysses together, ulysses fastest: the ranks that share the tokens of one evaluation.

    `everyone`: all ranks, as a side; `world`: the same, as a mesh.
    """

    degrees: Degrees
    device: torch.device
    cfg: Side
    ring: Side
    ulysses: Side
    sequence: Side
    everyone: Side
    world: DeviceMesh


def make_mesh(degrees: Degrees, device: torch.device) -> Mesh:
    """Needs an initialised process group of `degrees.world` ranks; every rank calls it."""
    shape = (degrees.cfg, degrees.ring, degrees.ulysses)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=SIDES)
    cfg, ring, ulysses = (_side(mesh[name]) for name in SIDES)
    sequence = _side(mesh["ring", "ulysses"]._flatten("sequence"))
    world = mesh._flatten("world")
    return Mesh(degrees, device, cfg, ring, ulysses, sequence, _side(world), world)


def _side(mesh: DeviceMesh) -> Side:
    return Side(mesh.get_group(), mesh.size(), mesh.get_local_rank())
