"""What the machine is: versions, memory, and what copying to the card and pinning memory for it cost."""

from __future__ import annotations

import mmap
import os
import platform
from pathlib import Path

import diffusers
import psutil
import torch
import transformers

import phonofilm
from benchmarks.contestants import HOST, backend_of
from benchmarks.gpu.context import Context
from benchmarks.timing import median_seconds, timed

GIB = 1 << 30
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe(context: Context) -> None:
    """Everything one needs to read the other figures by."""
    try:
        import triton
    except ImportError:
        triton_version = None
    else:
        triton_version = triton.__version__
    context.row(
        "versions",
        {
            "phonofilm": phonofilm.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton_version,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "allocator": os.environ.get("PYTORCH_ALLOC_CONF", os.environ.get("PYTORCH_CUDA_ALLOC_CONF")),
        },
    )
    context.row(
        "host",
        {
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_bytes": psutil.virtual_memory().total,
            "available_bytes": psutil.virtual_memory().available,
            "huge_pages": HUGE_PAGES.read_text().strip() if HUGE_PAGES.exists() else None,
        },
    )
    if not context.on_gpu:
        return
    about = torch.cuda.get_device_properties(context.device)
    context.row(
        "card",
        {
            "name": about.name,
            "capability": [about.major, about.minor],
            "multiprocessors": about.multi_processor_count,
            "memory_bytes": about.total_memory,
            "free_bytes": torch.cuda.mem_get_info(context.device)[0],
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
    )
    _copies(context)
    for huge in (False, True):
        _pinning(context, 2 * GIB, huge)


def _copies(context: Context) -> None:
    """Device to device, bytes read and written; and from memory that is not pinned."""
    source = torch.randint(0, 255, (2 * GIB,), dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    within = 2 * source.numel() / median_seconds(lambda: target.copy_(source), context.device, 5)
    host = torch.ones(GIB, dtype=torch.uint8)
    pageable = host.numel() / median_seconds(lambda: target[:GIB].copy_(host), context.device, 2)
    context.row("copies", {"device_bytes_s": within, "pageable_bytes_s": pageable})


def _pinning(context: Context, nbytes: int, huge: bool) -> None:
    """As the slabs of streamed layers are pinned, page by page; and what such memory sends and receives a second."""
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge:
        pages.madvise(mmap.MADV_HUGEPAGE)
    host = torch.frombuffer(pages, dtype=torch.uint8)
    backend = backend_of(context.device)
    touched = timed(lambda: host.fill_(1), HOST)
    pinned = timed(lambda: backend.pin(host), HOST)
    try:
        there = torch.empty_like(host, device=context.device)
        sent = median_seconds(lambda: there.copy_(host, non_blocking=True), context.device, 4)
        received = median_seconds(lambda: host.copy_(there, non_blocking=True), context.device, 2)
    finally:
        unpinned = timed(lambda: backend.unpin(host), context.device)
    rates = {"touch": touched, "pin": pinned, "to_device": sent, "to_host": received, "unpin": unpinned}
    context.row("pinning", {"huge_pages": huge, **{f"{name}_bytes_s": nbytes / s for name, s in rates.items()}})
