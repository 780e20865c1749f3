"""One guided step (prompt and negative prompt) of a small model on the CPU: our forward beside the same work done plainly.

    python -m benchmarks.cpu_step [--repeats N] [--json FILE]

Plainly means as the original does it: its block, 512 text positions with the padding, positions made anew. Both give the
same velocities (checked here). Runs are interleaved and only their ratio is worth anything: a shared machine's clock
swings by a factor of two.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.original_block import OriginalBlock
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser, JointOutput, fold_text_padding
from phonofilm.models.video import Grid, WanModel

RESULTS = Path(__file__).parent / "results"
GRID: Grid = (13, 4, 4)  # 49 frames of 64x64 pixels
AUDIO_LATENTS = 102
FRAME_RATE = 24.0
WIDTH, AUDIO_WIDTH, TEXT_WIDTH, LAYERS, AUDIO_LAYERS = 192, 96, 128, 6, 4
PROMPT_LENGTHS = torch.tensor([24]), torch.tensor([40])
TIMESTEP = torch.tensor([500.0])


def small_denoiser() -> JointDenoiser:
    video = WanModel(
        dim=WIDTH, in_dim=36, ffn_dim=4 * WIDTH, out_dim=16, text_dim=TEXT_WIDTH, freq_dim=64, eps=1e-6,
        patch_size=(1, 2, 2), num_heads=4, num_layers=LAYERS,
    )  # fmt: skip
    audio = WanAudioModel(
        dim=AUDIO_WIDTH, in_dim=32, ffn_dim=4 * AUDIO_WIDTH, out_dim=32, text_dim=TEXT_WIDTH, freq_dim=64, eps=1e-6,
        patch_size=(1,), num_heads=2, num_layers=AUDIO_LAYERS, vae_type="dac",
    )  # fmt: skip
    bridge = DualTowerConditionalBridge(
        visual_layers=LAYERS, audio_layers=AUDIO_LAYERS, visual_hidden_dim=WIDTH, audio_hidden_dim=AUDIO_WIDTH,
        audio_fps=50.0, head_dim=48, interaction_strategy="full", apply_cross_rope=True,
    )  # fmt: skip
    return JointDenoiser(video, audio, bridge).requires_grad_(False)


def with_original_blocks(denoiser: JointDenoiser) -> JointDenoiser:
    """The same weights with the original's sequence of operations in every video block; it takes complex128 rotations."""
    plain = small_denoiser()
    plain.video.blocks = nn.ModuleList(OriginalBlock(WIDTH, 4, 4 * WIDTH, 1e-6) for _ in range(LAYERS))
    plain.load_state_dict(denoiser.state_dict())
    return plain.requires_grad_(False)


def prompts() -> list[Tensor]:
    """Prompt and negative prompt as the text encoder leaves them: [1,512,d], zeros past the end."""
    return [
        torch.nn.functional.pad(torch.randn(1, int(length), TEXT_WIDTH), (0, 0, 0, 512 - int(length)))
        for length in PROMPT_LENGTHS
    ]


def seconds(call: Callable[[], list[JointOutput]]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, default=RESULTS / "cpu_step.json", help="where to write the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    denoiser = small_denoiser()
    plain = with_original_blocks(denoiser)
    frames, rows, columns = GRID
    video, audio = torch.randn(1, 36, frames, 2 * rows, 2 * columns), torch.randn(1, 32, AUDIO_LATENTS)
    texts = prompts()
    folded = [fold_text_padding(text, length) for text, length in zip(texts, PROMPT_LENGTHS, strict=True)]
    where = denoiser.positions(GRID, AUDIO_LATENTS, FRAME_RATE, video.device)

    def ours() -> list[JointOutput]:
        return [
            denoiser(video, audio, TIMESTEP, TIMESTEP, text, FRAME_RATE, text_bias=bias, positions=where)
            for text, bias in folded
        ]

    def plainly() -> list[JointOutput]:
        outputs = []
        for text in texts:
            anew = plain.positions(GRID, AUDIO_LATENTS, FRAME_RATE, video.device)
            anew = replace(anew, video_rope=anew.video_rope.to(torch.complex128))
            outputs.append(plain(video, audio, TIMESTEP, TIMESTEP, text, FRAME_RATE, positions=anew))
        return outputs

    apart = max(float((a.video - b.video).abs().max()) for a, b in zip(ours(), plainly(), strict=True))
    pairs = [(seconds(ours), seconds(plainly)) for _ in range(options.repeats)]
    ratios = sorted(theirs / mine for mine, theirs in pairs)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks.cpu_step --repeats {options.repeats}",
        "device": f"CPU, 1 thread, {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "ours_seconds_median": statistics.median(mine for mine, _ in pairs),
        "plain_seconds_median": statistics.median(theirs for _, theirs in pairs),
        "ratio_median": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        "largest_difference_of_velocities": apart,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
