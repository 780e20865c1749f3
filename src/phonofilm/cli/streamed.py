"""A pipeline that streams its layers, loaded for a machine that was settled so; says what loading took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from phonofilm.cli.devices import Machine
from phonofilm.cli.progress import Report, size
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.runtime.backends import Backend, CudaBackend, HostBackend
from phonofilm.runtime.layer_engine import LayerEngine
from phonofilm.runtime.streamed_loading import SlabFolder, load_for_streaming

if TYPE_CHECKING:
    from phonofilm.cli.checkpoint import Checkpoint


def load_streamed(checkpoint: Checkpoint, machine: Machine, report: Report) -> MovaPipeline:
    """The pipeline with its engine. Weights go from the files straight to where they wait, so LoRAs come after."""
    store = None
    if machine.disk is not None:
        name = f"phonofilm-{checkpoint.fingerprint}-{machine.dtype_name}"
        store = SlabFolder(machine.disk / name, checkpoint.fingerprint)
    loaded = load_for_streaming(
        checkpoint.layout,
        machine.dtype,
        machine.device,
        resident=machine.resident,
        store=store,
        progress=report.loading,
    )
    backend: Backend = CudaBackend(machine.device) if machine.device.type == "cuda" else HostBackend()
    engine = LayerEngine(
        loaded.pipe,
        backend,
        slots=machine.slots,
        resident=machine.resident,
        slabs=loaded.slabs,
        keep_text=machine.keeps_text,
    )
    waiting = f"{size(engine.host_bytes)} wait in host memory" if store is None else f"layers wait in {store.folder}"
    report.say(
        f"read {size(loaded.nbytes)} of weights in {loaded.seconds:.1f} s with {loaded.threads} threads; {waiting}, "
        f"the process has {size(psutil.Process().memory_info().rss)}"
    )
    return loaded.pipe
