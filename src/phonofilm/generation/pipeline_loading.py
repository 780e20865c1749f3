"""A checkpoint's weights, loaded for a placement: from the files to where they compute or wait, with LoRAs in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil

from phonofilm.generation.loras import LoraUse, use_loras
from phonofilm.generation.placement.computing import Computing, prepare_computing
from phonofilm.generation.placement.devices import DevicePlacement, place
from phonofilm.generation.report import Loading, Message, OnProgress, emit
from phonofilm.models.layout import NETWORKS
from phonofilm.models.loading import align_on_host
from phonofilm.parallel.parallel_session import ParallelSession
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.pretrained import pipeline_arguments
from phonofilm.runtime.backends import Backend, CudaBackend, HostBackend
from phonofilm.runtime.layer_engine import LayerEngine
from phonofilm.runtime.streamed_loading import SlabFolder, load_for_streaming
from phonofilm.units import format_size

if TYPE_CHECKING:
    from phonofilm.generation.checkpoint import Checkpoint


@dataclass(frozen=True)
class LoadedModel:
    """A pipeline whose weights are where they belong, and the folder of layers on disk that must live as long as it."""

    pipe: MovaPipeline
    layers_on_disk: TemporaryDirectory[str] | None = None


def load_pipeline(
    checkpoint: Checkpoint,
    placement: DevicePlacement,
    loras: Sequence[LoraUse],
    on_progress: OnProgress,
    ranks: ParallelSession | None = None,
) -> LoadedModel:
    """Load alone, or as one of the ranks that share the work."""
    if ranks is None:
        return _loaded(checkpoint, placement, loras, on_progress, on_host=False)
    heads = checkpoint.layout.components["video_dit"].config["num_heads"]
    emit(on_progress, Message(ranks.meet(heads, placement.attention)))
    with ranks.loading():
        model = _loaded(checkpoint, placement, loras, on_progress, on_host=ranks.asked.shard_weights)
        ranks.share(model.pipe)
    return model


def _loaded(
    checkpoint: Checkpoint,
    placement: DevicePlacement,
    loras: Sequence[LoraUse],
    on_progress: OnProgress,
    on_host: bool,
) -> LoadedModel:
    if placement.offload == "layer":
        pipe = _load_streamed(checkpoint, placement, on_progress)
    else:
        waits = on_host or placement.offloads or placement.computing.quantize is not None
        arguments = pipeline_arguments(
            checkpoint.layout,
            placement.dtype,
            device="cpu" if waits else placement.device,
            skip=(),
            progress=lambda name, done, total: emit(on_progress, Loading(name, done, total)),
            tokenizer=checkpoint.tokenizer,
        )
        pipe = MovaPipeline(**arguments)
        if placement.device.type == "cpu":
            for network in filter(None, (arguments[name] for name in NETWORKS)):
                align_on_host(network)
    if placement.vae_tiling:
        pipe.video_vae.enable_tiling()
    pipe.set_progress_bar_config(disable=True)
    if loras:
        use_loras(pipe, loras)  # before weights are moved or changed in kind
    if placement.computing != Computing():
        resident = None if placement.offloads else placement.device
        prepare_computing(pipe, placement.computing, resident, on_progress)
    pipe.require_finite_vaes()  # while their weights are in memory
    return LoadedModel(pipe, place(pipe, placement) if placement.offloads else None)


def _load_streamed(checkpoint: Checkpoint, placement: DevicePlacement, on_progress: OnProgress) -> MovaPipeline:
    """The pipeline with its engine. Weights go from the files straight to where they wait, so LoRAs come after."""
    store = None
    if placement.disk is not None:
        name = f"phonofilm-{checkpoint.fingerprint}-{placement.dtype_name}"
        store = SlabFolder(placement.disk / name, checkpoint.fingerprint)
    loaded = load_for_streaming(
        checkpoint.layout,
        placement.dtype,
        placement.device,
        resident=placement.resident,
        store=store,
        progress=lambda name, done, total: emit(on_progress, Loading(name, done, total)),
    )
    backend: Backend = CudaBackend(placement.device) if placement.device.type == "cuda" else HostBackend()
    engine = LayerEngine(
        loaded.pipe,
        backend,
        slots=placement.slots,
        resident=placement.resident,
        slabs=loaded.slabs,
        keep_text=placement.keeps_text,
    )
    waiting = (
        f"{format_size(engine.host_bytes)} wait in host memory" if store is None else f"layers wait in {store.folder}"
    )
    emit(
        on_progress,
        Message(
            f"read {format_size(loaded.nbytes)} of weights in {loaded.seconds:.1f} s with {loaded.threads} threads; "
            f"{waiting}, the process has {format_size(psutil.Process().memory_info().rss)}"
        ),
    )
    return loaded.pipe
