"""Counts one joint forward and one video block at the true 14B shapes, on the meta device: no GPU, no weights, seconds.

    python -m benchmarks.forward_counters [--json FILE]

Prints the original, the goal and ours from the same counter in the same run, and writes the numbers as JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch
from rich.console import Console
from rich.table import Table

import phonofilm
from benchmarks.original_block import OriginalBlock
from benchmarks.released import (
    CLIP_360P,
    CLIP_720P,
    META,
    TEXT_TOKENS,
    block_inputs,
    forward_inputs,
    released_denoiser,
)
from phonofilm.evaluation.counters import Counts, count
from phonofilm.evaluation.flops import forward_flops
from phonofilm.geometry import ClipGeometry
from phonofilm.kernels.choice import Kernels, use_kernels
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layers import Block

RESULTS = Path(__file__).parent / "results"
ELEMENTWISE_GOAL = 24e9
PEAK_GOAL = 4e9
FUSED_ELEMENTWISE_GOAL = 10.8e9
FUSED_PEAK_GOAL = 2.8e9


@dataclass(frozen=True)
class Row:
    """One line of the table. None where a number does not exist."""

    counter: str
    unit: str
    original: float | None
    goal: float | None
    ours: float


def count_block(block_class: type[Block], rope_dtype: torch.dtype, tokens: int, kernels: Kernels = "eager") -> Counts:
    """One video block of the released sizes in bfloat16 over `tokens` tokens, with these kernels."""
    with META:
        block = block_class(5120, 40, 13824, 1e-6).to(torch.bfloat16)
    given = block_inputs(tokens, 5120, 128, rope_dtype, torch.bfloat16)
    use_kernels(block, kernels)
    return count(
        lambda: block(given.x, given.modulation, given.rope, given.text, None),
        inputs=given.all,
        weights=block.parameters(),
    )


def count_forward(denoiser: JointDenoiser, clip: ClipGeometry, kernels: Kernels = "eager") -> Counts:
    given = forward_inputs(clip)
    use_kernels(denoiser, kernels)
    return count(given.forward(denoiser), inputs=given.on_device, weights=denoiser.parameters())


def analytic_flops(denoiser: JointDenoiser, clip: ClipGeometry) -> int:
    return forward_flops(denoiser, clip.video_tokens, clip.audio_latents, TEXT_TOKENS).total


def measure() -> tuple[list[Row], dict[str, Any]]:
    """The table's rows, and the details behind them."""
    tokens = CLIP_360P.video_tokens
    ours = count_block(Block, torch.complex64, tokens)
    fused = count_block(Block, torch.complex64, tokens, "triton")
    original = count_block(OriginalBlock, torch.complex128, tokens)
    denoiser = released_denoiser()
    small, large = count_forward(denoiser, CLIP_360P), count_forward(denoiser, CLIP_720P)
    small_fused = count_forward(denoiser, CLIP_360P, "triton")
    small_formula, large_formula = analytic_flops(denoiser, CLIP_360P), analytic_flops(denoiser, CLIP_720P)
    rows = [
        Row("FLOPs per forward, 352x640 (original: the formula)", "PF", small_formula, small_formula, small.flops),
        Row("FLOPs per forward, 720x1280 (original: the formula)", "PF", large_formula, large_formula, large.flops),
        Row("float64 tensors per video block", "", original.float64_tensors, 0, ours.float64_tensors),
        Row("float64 tensors per forward", "", None, 0, small.float64_tensors),
        Row(
            "elementwise bytes per video block",
            "GB",
            original.elementwise_bytes,
            ELEMENTWISE_GOAL,
            ours.elementwise_bytes,
        ),
        Row("peak live bytes in a video block", "GB", original.peak_live_bytes, PEAK_GOAL, ours.peak_live_bytes),
        Row(
            "elementwise bytes per video block, fused kernels",
            "GB",
            original.elementwise_bytes,
            FUSED_ELEMENTWISE_GOAL,
            fused.elementwise_bytes,
        ),
        Row(
            "peak live bytes in a video block, fused kernels",
            "GB",
            original.peak_live_bytes,
            FUSED_PEAK_GOAL,
            fused.peak_live_bytes,
        ),
        Row("elementwise bytes per forward, 352x640", "GB", None, None, small.elementwise_bytes),
        Row("the same with fused kernels", "GB", None, None, small_fused.elementwise_bytes),
        Row("peak live bytes in a forward, 352x640", "GB", None, None, small.peak_live_bytes),
        Row("peak live bytes in a forward, 720x1280", "GB", None, None, large.peak_live_bytes),
    ]
    details = {
        "block_ours": asdict(ours),
        "block_fused": asdict(fused),
        "block_original": asdict(original),
        "forward_352x640": asdict(small),
        "forward_352x640_fused": asdict(small_fused),
        "forward_720x1280": asdict(large),
        "formula_352x640": asdict(
            forward_flops(denoiser, CLIP_360P.video_tokens, CLIP_360P.audio_latents, TEXT_TOKENS)
        ),
        "parameters": {
            name: sum(p.numel() for p in getattr(denoiser, name).parameters()) for name in ("video", "audio", "bridge")
        },
    }
    return rows, details


def show(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    scale = {"PF": 1e15, "GB": 1e9, "": 1}[unit]
    return f"{value / scale:.3f} {unit}" if unit else f"{value:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "forward_counters.json", help="where to write the numbers"
    )
    destination = parser.parse_args().json
    torch.set_num_threads(1)
    rows, details = measure()
    table = Table(title="193 frames at 24 fps, bfloat16, 512 text tokens; GB = 1e9 bytes")
    table.add_column("counter")
    for column in ("original", "goal (at most)", "ours"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.counter, *(show(value, row.unit) for value in (row.original, row.goal, row.ours)))
    Console(width=110).print(table)
    destination.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python -m benchmarks.forward_counters",
        "device": "meta (shapes only)",
        "versions": {
            "phonofilm": phonofilm.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        "rows": [asdict(row) for row in rows],
        "details": details,
    }
    destination.write_text(json.dumps(record, indent=2) + "\n")
    print(f"wrote {destination}")


if __name__ == "__main__":
    main()
