"""A contact sheet: a grid of frames over the waveform, on one sheet to look at. Drawn with Pillow alone."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from phonofilm.errors import InputError
from phonofilm.media.clip import Clip
from phonofilm.media.metadata import title as short_prompt

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_PAPER, _PANEL, _INK, _FAINT, _WAVE = "#14161b", "#1d2129", "#e8eaf0", "#8b93a5", "#6fb7ff"
_MARKS = ("#ffb454", "#ff6b81", "#7ee0a0", "#c79bff")
_MARGIN, _GAP, _LABEL, _TITLE, _WAVE_HEIGHT, _AXIS = 20, 8, 20, 34, 120, 26
_CELL_SHORT, _CELL_LONG = 128, 256
# Lines are drawn this much larger and then reduced: Pillow does not smooth them itself.
_OVERSAMPLE = 2
_TICK_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


@dataclass(frozen=True)
class _Layout:
    """Pixels: the grid's cells, and where the waveform panel lies."""

    columns: int
    rows: int
    cell: tuple[int, int]
    top: int

    @property
    def width(self) -> int:
        return 2 * _MARGIN + self.columns * self.cell[0] + (self.columns - 1) * _GAP

    @property
    def wave_top(self) -> int:
        return self.top + self.rows * (self.cell[1] + _LABEL + _GAP)

    @property
    def height(self) -> int:
        return self.wave_top + _WAVE_HEIGHT + _AXIS + _MARGIN

    @property
    def panel(self) -> tuple[int, int, int, int]:
        return _MARGIN, self.wave_top, self.width - _MARGIN, self.wave_top + _WAVE_HEIGHT


def contact_sheet(
    clip: Clip,
    *,
    columns: int = 8,
    rows: int = 2,
    title: str | None = None,
    events: Mapping[str, Sequence[float]] | None = None,
) -> Image.Image:
    """Evenly spaced frames, each with its time, over the waveform of the whole clip.

    Small frames are enlarged (pixel by pixel), large ones reduced. `title` defaults to the prompt. `events` maps a name
    to times in seconds, drawn as coloured lines through the waveform with a legend.
    """
    from PIL import Image, ImageDraw

    if columns < 1 or rows < 1:
        raise InputError(f"a contact sheet of {columns}x{rows} frames is empty; both must be 1 or more")
    chosen = _chosen(clip.num_frames, columns * rows)
    columns = min(columns, len(chosen))
    heading = (short_prompt(clip.metadata) if title is None else title) or ""
    layout = _Layout(columns, -(-len(chosen) // columns), _cell(clip), _MARGIN + (_TITLE if heading else 0))
    sheet = Image.new("RGB", (layout.width, layout.height), _PAPER)
    sheet.paste(_wave_panel(clip, layout, events or {}), layout.panel[:2])
    draw = ImageDraw.Draw(sheet)
    if heading:
        font = _font(18)
        draw.text((_MARGIN, _MARGIN - 4), _shortened(heading, layout.width - 2 * _MARGIN, font), _INK, font)
    for place, index in enumerate(chosen):
        _draw_frame(sheet, draw, clip, layout, place, index)
    _draw_axis(draw, clip, layout, events or {})
    return sheet


def _chosen(frames: int, places: int) -> list[int]:
    """Evenly spread frame numbers, the first and the last among them."""
    if frames <= places:
        return list(range(frames))
    return [round(i * (frames - 1) / max(1, places - 1)) for i in range(places)]


def _cell(clip: Clip) -> tuple[int, int]:
    """(width, height) of a frame on the sheet: whole multiples for small frames, at most 256 wide."""
    scale = max(1, round(_CELL_SHORT / min(clip.width, clip.height)))
    scale_down = min(1.0, _CELL_LONG / (clip.width * scale), _CELL_LONG / (clip.height * scale))
    return max(1, round(clip.width * scale * scale_down)), max(1, round(clip.height * scale * scale_down))


def _draw_frame(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, clip: Clip, layout: _Layout, place: int, index: int
) -> None:
    from PIL import Image

    width, height = layout.cell
    x = _MARGIN + place % layout.columns * (width + _GAP)
    y = layout.top + place // layout.columns * (height + _LABEL + _GAP)
    image = Image.fromarray(clip.frames[index])
    method = Image.Resampling.NEAREST if width % clip.width == 0 else Image.Resampling.LANCZOS
    sheet.paste(image.resize((width, height), method), (x, y))
    draw.text((x + 1, y + height + 2), f"{float(index / clip.frame_rate):.2f} s", _FAINT, _font(13))


def _wave_panel(clip: Clip, layout: _Layout, events: Mapping[str, Sequence[float]]) -> Image.Image:
    """The panel with the waveform's lowest and highest sample in every column, and the event lines behind it."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = layout.panel
    size = (right - left, bottom - top)
    width, height = size[0] * _OVERSAMPLE, size[1] * _OVERSAMPLE
    panel = Image.new("RGB", (width, height), _PANEL)
    draw = ImageDraw.Draw(panel)
    for number, times in enumerate(events.values()):
        for time in times:
            x = round(time / float(clip.seconds) * width)
            draw.line((x, 0, x, height), _MARKS[number % len(_MARKS)], 2 * _OVERSAMPLE)
    middle = height / 2
    trimmed = clip.trimmed_to_picture()
    if trimmed.audio is None or trimmed.audio.shape[1] == 0:
        draw.text((width / 2, middle), "no sound", _FAINT, _font(18 * _OVERSAMPLE), anchor="mm")
    else:
        draw.line((0, middle, width, middle), "#39404e", _OVERSAMPLE)
        low, high = _envelope(trimmed.audio, width)
        for x in range(width):
            draw.line((x, middle - high[x] * middle * 0.94, x, middle - low[x] * middle * 0.94), _WAVE)
    return panel.resize(size, Image.Resampling.LANCZOS)


def _envelope(audio: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) sample of all channels in each column, within -1..1; neighbours overlap so that lines join."""
    edges = np.linspace(0, audio.shape[1], columns + 1).astype(int)
    last = audio.shape[1] - 1
    slices = [audio[:, min(a, last) : max(b, min(a, last)) + 1] for a, b in pairwise(edges)]
    low = np.clip([part.min() for part in slices], -1, 1)
    high = np.clip([part.max() for part in slices], -1, 1)
    return low, high


def _draw_axis(draw: ImageDraw.ImageDraw, clip: Clip, layout: _Layout, events: Mapping[str, Sequence[float]]) -> None:
    """Time ticks under the waveform, and the events' names at the right end of the same line."""
    left, _, right, bottom = layout.panel
    font = _font(13)
    legend = right
    for number, name in reversed(list(enumerate(events))):
        legend -= round(font.getlength(name))
        draw.text((legend, bottom + 6), name, _MARKS[number % len(_MARKS)], font)
        legend -= 18
    seconds = float(clip.seconds)
    fits = max(1, (right - left) // 70)
    step = next((step for step in _TICK_STEPS if seconds / step <= fits), _TICK_STEPS[-1])
    for number in range(int(Fraction(seconds) / Fraction(str(step))) + 1):
        x = left + number * step / seconds * (right - left)
        text = f"{number * step:g} s"
        draw.line((x, bottom, x, bottom + 4), _FAINT)
        if x + font.getlength(text) < legend:
            draw.text((x, bottom + 6), text, _FAINT, font)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    fits = bisect_right(range(len(text)), width, key=lambda n: math.ceil(font.getlength(text[:n] + "…")))
    return text[: max(0, fits - 1)].rstrip() + "…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
