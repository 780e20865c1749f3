"""A whole clip of the embedded model on the device, beside the same clip made by the host."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants import HOST
from benchmarks.gpu.context import Context
from phonofilm.pipeline.mova import MovaPipeline

PROMPT = "A red ball bounces on a wooden floor."
STEPS = 8


def generate(context: Context) -> None:
    """Prompt to frames and sound in float32, with one seed; then to a file, where PyAV is installed."""
    ours, expected = (_made(context, device) for device in (context.device, HOST))
    for name, mine, its in (("frames", ours.frames, expected.frames), ("sound", ours.audio, expected.audio)):
        figures = {"relative_difference": _apart(mine, its), "largest_difference": float((mine - its).abs().max())}
        context.row(f"{name} beside the host's", figures)
    context.row("file", _written(context, ours))


def _made(context: Context, device: torch.device) -> Any:
    pipeline = MovaPipeline.from_pretrained("nano", torch_dtype=torch.float32, device=device)
    pipeline.set_progress_bar_config(disable=True)
    steps = 1 if context.tiny else STEPS
    frames = 5 if context.tiny else None
    began = time.perf_counter()
    out = pipeline(
        PROMPT,
        num_frames=frames,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    )
    context.row(f"made on {device.type}", {"seconds": time.perf_counter() - began, "frames": list(out.frames.shape)})
    return out


def _written(context: Context, out: Any) -> dict[str, object]:
    try:
        import av  # noqa: F401 - what files are written with
    except ImportError:
        return {"written": None, "why": "the package av is not installed"}
    from phonofilm.media import save_clip

    path = context.job.scratch / "clip.mp4"
    save_clip(out.clips()[0], path)
    return {"written": path.stat().st_size}


def _apart(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).norm() / reference.norm())
