"""A pipeline that streams its layers, loaded for a placement that asks for it; reports what loading took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from phonofilm.generation.placement.devices import Placement
from phonofilm.generation.report import Report
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.runtime.backends import Backend, CudaBackend, HostBackend
from phonofilm.runtime.layer_engine import LayerEngine
from phonofilm.runtime.streamed_loading import SlabFolder, load_for_streaming
from phonofilm.units import format_size

if TYPE_CHECKING:
    from phonofilm.generation.checkpoint import Checkpoint


def load_streamed(checkpoint: Checkpoint, placement: Placement, report: Report) -> MovaPipeline:
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
        progress=report.loading,
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
    report.say(
        f"read {format_size(loaded.nbytes)} of weights in {loaded.seconds:.1f} s with {loaded.threads} threads; {waiting}, "
        f"the process has {format_size(psutil.Process().memory_info().rss)}"
    )
    return loaded.pipe
