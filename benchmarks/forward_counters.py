"""Counts a joint forward, a video block and a bridge layer at the true 14B shapes, on the meta device: no GPU, no weights.

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
from phonofilm.geometry import ClipGeometry
from phonofilm.kernels.choice import Kernels, use_kernels
from phonofilm.models.bridge import BridgeScale
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layers import Block
from phonofilm.models.quantized import empty_quantized
from phonofilm.runtime.counters import Counts, count
from phonofilm.runtime.flops import forward_flops

RESULTS = Path(__file__).parent / "results"
ELEMENTWISE_GOAL = 24e9
PEAK_GOAL = 4e9
FUSED_ELEMENTWISE_GOAL = 10.8e9
FUSED_PEAK_GOAL = 2.8e9
FUSED_BRIDGE_GOAL = 4e9
FUSED_FORWARD_GOAL = 450e9
FP8_BLOCK_GOAL = 10e9
# The original's own modules under this counter, run by hand; its code is not here.
ORIGINAL_BRIDGE_BYTES = 6.04e9
ORIGINAL_FORWARD_BYTES = 1429e9


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
    return count_this_block(block, rope_dtype, tokens, kernels)


def count_this_block(block: Block, rope_dtype: torch.dtype, tokens: int, kernels: Kernels) -> Counts:
    """A video block of a released network, quantised or not, over `tokens` tokens."""
    given = block_inputs(tokens, 5120, 128, rope_dtype, torch.bfloat16)
    use_kernels(block, kernels)
    return count(
        lambda: block(given.x, given.modulation, given.rope, given.text, None),
        inputs=given.all,
        weights=block.parameters(),
    )


def count_bridge(denoiser: JointDenoiser, clip: ClipGeometry, kernels: Kernels = "eager") -> Counts:
    """Both directions of one bridge layer over a clip's tokens."""
    grid = (clip.latent_frames, clip.latent_height // 2, clip.latent_width // 2)
    clock = denoiser.positions(grid, clip.audio_latents, float(clip.frame_rate), META).clock
    video = torch.empty(1, clip.video_tokens, 5120, dtype=torch.bfloat16, device=META)
    audio = torch.empty(1, clip.audio_latents, 1536, dtype=torch.bfloat16, device=META)
    bridge = denoiser.bridge
    use_kernels(bridge, kernels)
    return count(
        lambda: bridge(0, video, audio, clock, grid, BridgeScale()),
        inputs=[video, audio],
        weights=bridge.parameters(),
    )


def count_forward(denoiser: JointDenoiser, clip: ClipGeometry, kernels: Kernels = "eager") -> Counts:
    given = forward_inputs(clip)
    use_kernels(denoiser, kernels)
    return count(given.forward(denoiser), inputs=given.on_device, weights=denoiser.parameters())


def fp8_denoiser() -> JointDenoiser:
    """The released sizes with weights in fp8. On the meta device its layers multiply in fp8, as on a GPU that can."""
    denoiser = released_denoiser()
    for network in (denoiser.video, denoiser.audio, denoiser.bridge):
        empty_quantized(network, "fp8")
    for name, parameter in denoiser.named_parameters():
        if name.endswith(".bias"):  # of layers made anew: a float32 one would be converted at every product
            parameter.data = parameter.data.to(torch.bfloat16)
    return denoiser.eval()


def analytic_flops(denoiser: JointDenoiser, clip: ClipGeometry) -> int:
    return forward_flops(denoiser, clip.video_tokens, clip.audio_latents, TEXT_TOKENS).total


def measure() -> tuple[list[Row], dict[str, Any]]:
    """The table's rows, and the details behind them."""
    denoiser, tokens = released_denoiser(), CLIP_360P.video_tokens
    counts = {
        "block_ours": count_block(Block, torch.complex64, tokens),
        "block_fused": count_block(Block, torch.complex64, tokens, "triton"),
        "block_original": count_block(OriginalBlock, torch.complex128, tokens),
        "bridge_ours": count_bridge(denoiser, CLIP_360P),
        "bridge_fused": count_bridge(denoiser, CLIP_360P, "triton"),
        "forward_352x640": count_forward(denoiser, CLIP_360P),
        "forward_352x640_fused": count_forward(denoiser, CLIP_360P, "triton"),
        "forward_720x1280": count_forward(denoiser, CLIP_720P),
        "forward_720x1280_fused": count_forward(denoiser, CLIP_720P, "triton"),
    }
    formulas = {name: analytic_flops(denoiser, clip) for name, clip in (("360p", CLIP_360P), ("720p", CLIP_720P))}
    details: dict[str, Any] = {
        "formula_352x640": asdict(
            forward_flops(denoiser, CLIP_360P.video_tokens, CLIP_360P.audio_latents, TEXT_TOKENS)
        ),
        "parameters": {
            name: sum(p.numel() for p in getattr(denoiser, name).parameters()) for name in ("video", "audio", "bridge")
        },
    }
    denoiser = fp8_denoiser()
    for kernels, name in (("eager", "ours"), ("triton", "fused")):
        block = denoiser.video.blocks[0]
        assert isinstance(block, Block)
        counts[f"block_fp8_{name}"] = count_this_block(block, torch.complex64, tokens, kernels)  # type: ignore[arg-type]
    counts["forward_352x640_fp8_fused"] = count_forward(denoiser, CLIP_360P, "triton")
    return _rows(counts, formulas), {name: asdict(one) for name, one in counts.items()} | details


def _rows(counts: dict[str, Counts], formulas: dict[str, int]) -> list[Row]:
    original = counts["block_original"]

    def moved(what: str, name: str, original: float | None = None, goal: float | None = None) -> Row:
        return Row(f"elementwise bytes per {what}", "GB", original, goal, counts[name].elementwise_bytes)

    def peak(what: str, name: str, original: float | None = None, goal: float | None = None) -> Row:
        return Row(f"peak live bytes in a {what}", "GB", original, goal, counts[name].peak_live_bytes)

    def flops(size: str, formula: int) -> Row:
        counted = counts[f"forward_{size}"].flops
        return Row(f"FLOPs per forward, {size} (original: the formula)", "PF", formula, formula, counted)

    block, block_peak = original.elementwise_bytes, original.peak_live_bytes
    return [
        flops("352x640", formulas["360p"]),
        flops("720x1280", formulas["720p"]),
        Row("float64 tensors per video block", "", original.float64_tensors, 0, counts["block_ours"].float64_tensors),
        Row("float64 tensors per forward", "", None, 0, counts["forward_352x640"].float64_tensors),
        moved("video block", "block_ours", block, ELEMENTWISE_GOAL),
        peak("video block", "block_ours", block_peak, PEAK_GOAL),
        moved("video block, fused kernels", "block_fused", block, FUSED_ELEMENTWISE_GOAL),
        peak("video block, fused kernels", "block_fused", block_peak, FUSED_PEAK_GOAL),
        moved("video block, fp8", "block_fp8_ours"),
        moved("video block, fp8, fused kernels", "block_fp8_fused", None, FP8_BLOCK_GOAL),
        moved("bridge layer", "bridge_ours", ORIGINAL_BRIDGE_BYTES),
        peak("bridge layer", "bridge_ours"),
        moved("bridge layer, fused kernels", "bridge_fused", ORIGINAL_BRIDGE_BYTES, FUSED_BRIDGE_GOAL),
        peak("bridge layer, fused kernels", "bridge_fused"),
        moved("forward, 352x640", "forward_352x640", ORIGINAL_FORWARD_BYTES),
        moved("forward, 352x640, fused kernels", "forward_352x640_fused", ORIGINAL_FORWARD_BYTES, FUSED_FORWARD_GOAL),
        moved("forward, 352x640, fp8, fused kernels", "forward_352x640_fp8_fused"),
        peak("forward, 352x640", "forward_352x640"),
        peak("forward, 352x640, fused kernels", "forward_352x640_fused"),
        peak("forward, 720x1280", "forward_720x1280"),
        peak("forward, 720x1280, fused kernels", "forward_720x1280_fused"),
    ]


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
