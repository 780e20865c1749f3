"""Sizes of model and clip that can be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from phonofilm.errors import InputError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.video import Grid, WanModel
from phonofilm.runtime.released import released_denoiser


def small_denoiser(layers: int = 8, head_width: int = 48) -> JointDenoiser:
    """A model of the released one's shape, on the meta device: 8 heads of video and 4 of audio in every layer."""
    video, audio = 8 * head_width, 4 * head_width
    shared: dict[str, Any] = {"text_dim": 128, "freq_dim": 64, "eps": 1e-6, "num_layers": layers}
    with torch.device("meta"):
        return JointDenoiser(
            WanModel(dim=video, in_dim=36, ffn_dim=4 * video, out_dim=16, patch_size=(1, 2, 2), num_heads=8, **shared),
            WanAudioModel(
                dim=audio,
                in_dim=32,
                ffn_dim=4 * audio,
                out_dim=32,
                patch_size=(1,),
                num_heads=4,
                vae_type="dac",
                **shared,
            ),
            DualTowerConditionalBridge(
                visual_layers=layers,
                audio_layers=layers,
                visual_hidden_dim=video,
                audio_hidden_dim=audio,
                audio_fps=50.0,
                head_dim=head_width,
                interaction_strategy="full",
                apply_cross_rope=True,
            ),
        )


@dataclass(frozen=True)
class Size:
    """`what`: in words. `grid`: video tokens by (frame, row, column). `shapes`: makes the model on the meta device."""

    name: str
    what: str
    grid: Grid
    audio_tokens: int
    shapes: Callable[[], JointDenoiser] = released_denoiser


MICRO = partial(small_denoiser, layers=2, head_width=24)
SIZES = {
    size.name: size
    for size in (
        Size("micro", "2 layers of 192/96, 17 frames of 48x32", (5, 2, 3), 36, MICRO),
        Size("micro-short", "2 layers of 192/96, 5 frames of 48x32", (2, 2, 3), 9, MICRO),
        Size("tiny", "8 layers of 384/192, 49 frames of 128x128", (13, 8, 8), 102, small_denoiser),
        Size("360p", "the released sizes, 193 frames of 640x352", (49, 22, 40), 403),
        Size("360p-17", "the released sizes, 17 frames of 640x352", (5, 22, 40), 36),
        Size("720p", "the released sizes, 193 frames of 1280x720", (49, 45, 80), 403),
        Size("720p-17", "the released sizes, 17 frames of 1280x720", (5, 45, 80), 36),
    )
}


def size_named(name: str) -> Size:
    """Raises InputError for a size there is not."""
    if name not in SIZES:
        raise InputError(f"size {name!r} is unknown; use one of {', '.join(SIZES)}")
    return SIZES[name]
