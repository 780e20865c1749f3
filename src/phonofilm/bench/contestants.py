"""Who runs the step, and how: each takes the bed's model in host memory, sets it up, runs steps, and puts it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch

from phonofilm.bench.bed import Bed
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.layerwise import forward_one
from phonofilm.runtime.backends import CudaBackend, HostBackend
from phonofilm.runtime.streaming import LayerStreamer


@dataclass(frozen=True)
class Running:
    """A contestant at work. `step` makes one guided step; `streamed_bytes` reach the device in each."""

    step: Callable[[], list[JointOutput]]
    streamed_bytes: int = 0


@dataclass(frozen=True)
class Contestant:
    """`ours`: or a peer. `what`: how it keeps its weights, in words."""

    name: str
    what: str
    ours: bool
    run: Callable[[Bed], AbstractContextManager[Running]]


@contextmanager
def resident(bed: Bed) -> Iterator[Running]:
    """All weights on the device."""
    with _copied(bed) as denoiser:
        denoiser.to(bed.device)
        yield Running(lambda: [forward_one(denoiser, bed.moment, variant) for variant in bed.variants])


@contextmanager
def streamed(bed: Bed) -> Iterator[Running]:
    """Our layer streaming through two slots: weights are fetched once for both evaluations."""
    backend = CudaBackend(bed.device) if bed.device.type == "cuda" else HostBackend()
    with _copied(bed) as denoiser:
        streamer = LayerStreamer([denoiser], backend, slots=2)
        try:
            yield Running(lambda: streamer.forward_many(bed.moment, bed.variants), sum(streamer.streamed_bytes))
        finally:
            streamer.close()


@contextmanager
def group_offload(bed: Bed, kind: str) -> Iterator[Running]:
    """diffusers' group offloading, as its documentation tells to use it: block by block, with a stream of its own."""
    from diffusers.hooks import apply_group_offloading

    with _copied(bed) as denoiser:
        for tower in (denoiser.video, denoiser.audio, denoiser.bridge):
            apply_group_offloading(
                tower,
                onload_device=bed.device,
                offload_device=torch.device("cpu"),
                offload_type=kind,
                num_blocks_per_group=1 if kind == "block_level" else None,
                use_stream=bed.device.type == "cuda",
            )
        weights = sum(p.numel() * p.element_size() for p in denoiser.parameters())
        yield Running(
            lambda: [forward_one(denoiser, bed.moment, variant) for variant in bed.variants],
            len(bed.variants) * weights,
        )


CONTESTANTS = (
    Contestant("resident", "all weights on the device", True, resident),
    Contestant("streamed", "2 layers on the device, fetched once a step", True, streamed),
    Contestant(
        "diffusers leaf", "diffusers group offload, leaf by leaf", False, lambda b: group_offload(b, "leaf_level")
    ),
)


@contextmanager
def _copied(bed: Bed) -> Iterator[JointDenoiser]:
    """The bed's model for a contestant to move about; at the true sizes there is host memory for one only."""
    if bed.size.released:
        yield bed.denoiser
        bed.denoiser.to("cpu")
    else:
        yield deepcopy(bed.denoiser)
