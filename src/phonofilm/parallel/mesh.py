"""The ranks as a mesh of CFG x ring x Ulysses, and each rank's coordinate on every axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import ProcessGroup

from phonofilm.parallel.degrees import Degrees

AXES = ("cfg", "ring", "ulysses")


@dataclass(frozen=True)
class MeshAxis:
    """The ranks along one axis of the mesh through this rank, and this rank's number among them."""

    group: ProcessGroup
    size: int
    rank: int

    def gather(self, ours: Tensor) -> list[Tensor]:
        """Everyone's tensor of the same shape, in rank order."""
        every = [torch.empty_like(ours) for _ in range(self.size)]
        dist.all_gather(every, ours, group=self.group)
        return every


@dataclass(frozen=True)
class Mesh:
    """`sequence` is ring and ulysses together, ulysses fastest: the ranks that share the tokens of one evaluation.

    `everyone`: all ranks, as a axis; `world`: the same, as a mesh.
    """

    degrees: Degrees
    device: torch.device
    cfg: MeshAxis
    ring: MeshAxis
    ulysses: MeshAxis
    sequence: MeshAxis
    everyone: MeshAxis
    world: DeviceMesh


def make_mesh(degrees: Degrees, device: torch.device) -> Mesh:
    """Needs an initialised process group of `degrees.world` ranks; every rank calls it."""
    shape = (degrees.cfg, degrees.ring, degrees.ulysses)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=AXES)
    cfg, ring, ulysses = (_axis(mesh[name]) for name in AXES)
    sequence = _axis(mesh["ring", "ulysses"]._flatten("sequence"))
    world = mesh._flatten("world")
    return Mesh(degrees, device, cfg, ring, ulysses, sequence, _axis(world), world)


def _axis(mesh: DeviceMesh) -> MeshAxis:
    return MeshAxis(mesh.get_group(), mesh.size(), mesh.get_local_rank())
