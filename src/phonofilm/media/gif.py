"""A clip as an animated gif: at most 50 frames a second, at most 256 colours a frame, no sound."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.media.clip import Clip
from phonofilm.media.metadata import to_text

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

_TICKS = 100
# Browsers slow a gif down to 10 frames a second when a frame lasts less than two hundredths.
_FASTEST = Fraction(50)


def write_gif(clip: Clip, path: Path) -> None:
    """Frame times are rounded to hundredths of a second without drift; the settings go into the comment."""
    from PIL import Image

    rate = min(clip.frame_rate, _FASTEST)
    if rate < clip.frame_rate:
        logger.warning("a gif shows at most %d frames a second; frames are left out", _FASTEST)
    shown = [math.floor(i * clip.frame_rate / rate) for i in range(math.ceil(clip.seconds * rate))]
    ends = [round((i + 1) * _TICKS / rate) for i in range(len(shown))]
    durations = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    images = [_paletted(Image.fromarray(clip.frames[index])) for index in shown]
    comment = to_text(clip.metadata).encode() if clip.metadata else b""
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, comment=comment
    )


def _paletted(image: Image.Image) -> Image.Image:
    """256 colours of the frame's own, spread by error diffusion: small bright things keep their colour, skies do not band."""
    from PIL import Image

    palette = image.quantize(256, method=Image.Quantize.FASTOCTREE)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
