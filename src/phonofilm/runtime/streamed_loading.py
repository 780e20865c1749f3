"""Loads a pipeline for layer streaming: weights are read straight into the memory they will be streamed from."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layout import CheckpointLayout
from phonofilm.models.loading import LoadProgress
from phonofilm.models.quantized import loaded_dtype
from phonofilm.models.threaded_reads import assign_memory, fill, tensor_reads
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.pretrained import pipeline_arguments
from phonofilm.runtime.layer_groups import Group, layer_groups, parameters_of, slab_parameters
from phonofilm.runtime.layer_streaming import spread
from phonofilm.runtime.slab_files import stored_slabs
from phonofilm.runtime.slabs import HostSlab, SlabLayout, host_memory

EXPERT_COMPONENTS = ("video_dit", "video_dit_2")
DENOISER = (*EXPERT_COMPONENTS, "audio_dit", "dual_tower_bridge")
PROGRESS_NAME = "denoiser"
MOST_THREADS = 8

ParameterMemory = dict[nn.Parameter, Tensor]
"""For each parameter, the memory that its values are read into."""


@dataclass(frozen=True)
class SlabFolder:
    """Where slabs lie in files: a folder for this checkpoint in this precision. `fingerprint` tells checkpoints apart."""

    folder: Path
    fingerprint: str


@dataclass(frozen=True)
class LoadedPipeline:
    """The pipeline, its slabs by the modules that live in them, and what reading the denoiser took.

    `nbytes` were read in `seconds` by `threads`; nothing is read when a store has it all but the embeddings and heads.
    """

    pipe: MovaPipeline
    slabs: dict[Group, HostSlab]
    nbytes: int
    seconds: float
    threads: int


def load_for_streaming(
    layout: CheckpointLayout,
    dtype: torch.dtype,
    device: torch.device,
    *,
    resident: int = 0,
    store: SlabFolder | None = None,
    threads: int | None = None,
    progress: LoadProgress | None = None,
) -> LoadedPipeline:
    """Load a checkpoint for a `LayerEngine` with as many `resident` layers.

    Streamed layers are read into slabs of host memory, or mapped from `store`; resident ones, embeddings and heads go to
    `device`; text encoder and autoencoders stay in host memory.

    Raises CheckpointError as loading does; InputError or MediaError when the store cannot be written.
    """
    arguments = pipeline_arguments(layout, dtype, device="cpu", skip=DENOISER, progress=progress)
    started = time.monotonic()
    networks = {name: layout.components[name].take_skeleton() for name in DENOISER if name in layout.components}
    pipe = MovaPipeline(**{**arguments, **networks})
    loader = _Loader(layout, networks, dtype, threads or min(MOST_THREADS, os.cpu_count() or 1), progress)
    groups = dict(_groups(denoisers(pipe), resident, everything=store is not None))
    slabs = loader.into_memory(groups) if store is None else loader.into_files(groups, store)
    loader.around(device)
    for network in networks.values():
        network.eval()
    return LoadedPipeline(pipe, slabs, loader.done, time.monotonic() - started, loader.threads)


def denoisers(pipe: MovaPipeline) -> list[JointDenoiser]:
    """The pipeline's experts, high-noise first, each with what they share."""
    experts = [expert for expert in (pipe.video_dit, pipe.video_dit_2) if expert is not None]
    return [JointDenoiser(expert, pipe.audio_dit, pipe.dual_tower_bridge) for expert in experts]


def _groups(experts: Sequence[JointDenoiser], resident: int, everything: bool) -> Iterator[tuple[Group, str]]:
    """The modules of every slab, and the slab's name. `everything`: resident layers too, so that files serve any number."""
    for number, expert in enumerate(experts):
        kept = frozenset[int]() if everything else spread(resident, expert.num_layers)
        for index in range(expert.num_layers):
            if index not in kept:
                for group, kind in zip(layer_groups(expert, index), (f"expert-{number}", "shared"), strict=False):
                    yield group, f"{kind}-layer-{index:02d}"


class _Loader:
    """Gives the parameters of `networks` memory, and reads them there."""

    def __init__(
        self,
        layout: CheckpointLayout,
        networks: dict[str, nn.Module],
        dtype: torch.dtype,
        threads: int,
        progress: LoadProgress | None,
    ) -> None:
        self._layout, self._networks, self._dtype, self._progress = layout, networks, dtype, progress
        self.threads = threads
        self.done = 0

    def into_memory(self, groups: dict[Group, str]) -> dict[Group, HostSlab]:
        buffers = {group: host_memory(self._slab_layout(group).nbytes) for group in groups}
        self._read(self._slab_memory(buffers))
        return {group: HostSlab(slab_parameters(group), buffer) for group, buffer in buffers.items()}

    def into_files(self, groups: dict[Group, str], store: SlabFolder) -> dict[Group, HostSlab]:
        layouts = {name: self._slab_layout(group) for group, name in groups.items()}
        places = [f"{name} {piece.offset} {list(piece.shape)}" for name, one in layouts.items() for piece in one.pieces]
        account = f"{store.fingerprint} {self._dtype} {hashlib.sha256(repr(places).encode()).hexdigest()}"

        def write(made: dict[str, Tensor]) -> None:
            self._read(self._slab_memory({group: made[name] for group, name in groups.items()}))

        maps = stored_slabs(store.folder, {name: one.nbytes for name, one in layouts.items()}, account, write)
        buffers = {group: maps[name] for group, name in groups.items()}
        self._assign(self._slab_memory(buffers))
        return {group: HostSlab(slab_parameters(group), buffer, on_disk=True) for group, buffer in buffers.items()}

    def around(self, device: torch.device) -> None:
        """Whatever is in no slab, to `device`."""
        left = [parameter for parameter in parameters_of(list(self._networks.values())) if parameter.is_meta]
        self._read({p: torch.empty(p.shape, dtype=loaded_dtype(p, self._dtype), device=device) for p in left})

    def _slab_layout(self, group: Group) -> SlabLayout:
        return SlabLayout.of(
            torch.empty(p.shape, dtype=loaded_dtype(p, self._dtype), device="meta") for p in slab_parameters(group)
        )

    def _slab_memory(self, buffers: dict[Group, Tensor]) -> ParameterMemory:
        return {
            parameter: view
            for group, buffer in buffers.items()
            for parameter, view in zip(slab_parameters(group), self._slab_layout(group).views(buffer), strict=True)
        }

    def _assign(self, memory: ParameterMemory) -> list[nn.Parameter]:
        return [parameter for network in self._networks.values() for parameter in assign_memory(network, memory)]

    def _read(self, memory: ParameterMemory) -> None:
        assigned = self._assign(memory)
        wanted = [
            one
            for name, network in self._networks.items()
            for one in tensor_reads(self._layout.components[name], network, assigned)
        ]
        fill(wanted, self.threads, self._count)

    def _count(self, nbytes: int) -> None:
        self.done += nbytes
        if self._progress is not None:
            self._progress(
                PROGRESS_NAME, self.done, sum(self._layout.components[name].nbytes for name in self._networks)
            )
