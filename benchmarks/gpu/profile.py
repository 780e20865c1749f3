"""Where the time of one fused step goes, kernel by kernel: a table in profile.json, to read beside the roofline."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants import Ours
from benchmarks.gpu.context import Context
from benchmarks.timing import synchronize

MOST = 60
KINDS = {
    "attention": ("fmha", "flash", "attention", "sdpa"),
    "product": ("gemm", "nvjet", "cutlass", "cublas", "xmma", "mm", "conv"),
    "copy": ("memcpy", "memset"),
}
"""Words in a kernel's name by what it is; the first kind that has one. What has none is elementwise, or a reduction."""


@torch.no_grad()
def one_step(context: Context) -> None:
    """The step's kernels by time, their sum by kind, and the time in which the device did nothing."""
    work = context.workload(context.device)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if context.on_gpu else [])
    with Ours(fused=context.on_gpu)(work) as running:
        running.step(work.at(context.short))
        synchronize(context.device)
        with profile(activities=activities) as profiled:
            running.step(work)
            synchronize(context.device)
    kernels = [event for event in profiled.key_averages() if not context.on_gpu or event.device_type.name == "CUDA"]
    table = sorted((_row(event, context.on_gpu) for event in kernels), key=lambda row: -row["seconds"])
    whole = sum(row["seconds"] for row in table)
    by_kind: dict[str, float] = {}
    for row in table:
        by_kind[row["kind"]] = by_kind.get(row["kind"], 0.0) + row["seconds"]
    (context.job.out / "profile.json").write_text(
        json.dumps({"kinds": by_kind, "kernels": table[:MOST]}, indent=1) + "\n"
    )
    context.row("by kind", {"seconds": whole, "kinds": by_kind})
    for row in table[:12]:
        context.row("kernel", {**row, "share": row["seconds"] / whole})


def _row(event: Any, on_gpu: bool) -> dict[str, Any]:
    microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return {"name": event.key[:160], "kind": _kind(event.key), "calls": event.count, "seconds": microseconds / 1e6}


def _kind(name: str) -> str:
    lower = name.lower()
    if lower.startswith(("_", "triton")):  # our own keep the names they have in Python
        return "fused"
    return next((kind for kind, words in KINDS.items() if any(word in lower for word in words)), "elementwise")
