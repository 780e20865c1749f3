"""The contact sheet shows the frames it says it shows, over the sound at its true place."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from tests.media_makers import flash_and_beep

from phonofilm.errors import InputError
from phonofilm.media import Clip, contact_sheet

WAVE_BLUE = (111, 183, 255)
MARGIN = 20


def bright_cells(sheet: Image.Image, cell: int, columns: int, rows: int, top: int = MARGIN) -> list[int]:
    middles = [
        (MARGIN + c * (cell + 8) + cell // 2, top + r * (cell + 28) + cell // 2)
        for r in range(rows)
        for c in range(columns)
    ]
    return [place for place, xy in enumerate(middles) if min(sheet.getpixel(xy)) > 200]  # type: ignore[type-var, arg-type]


def columns_of(sheet: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    near = np.abs(np.asarray(sheet).astype(int) - colour).max(axis=-1) < 40
    return np.flatnonzero(near.sum(axis=0) > 20)


def test_frames_are_spread_evenly_first_to_last() -> None:
    clip = flash_and_beep(31, at=(0, 14, 30), side=64)
    sheet = contact_sheet(clip, columns=8, rows=2)
    assert bright_cells(sheet, 128, 8, 2) == [0, 7, 15]


def test_small_frames_are_enlarged_pixel_by_pixel() -> None:
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[:, ::2, ::2] = 255
    sheet = np.asarray(contact_sheet(Clip(frames, Fraction(24))))
    cell = sheet[MARGIN : MARGIN + 128, MARGIN : MARGIN + 128, 0]
    assert np.array_equal(cell, frames[0, :, :, 0].repeat(2, 0).repeat(2, 1))


def test_large_frames_are_reduced() -> None:
    clip = Clip(np.zeros((3, 720, 1280, 3), np.uint8), Fraction(24))
    assert contact_sheet(clip, columns=3, rows=1).width == 2 * MARGIN + 3 * 256 + 2 * 8


def test_sound_and_events_lie_at_their_time() -> None:
    clip = flash_and_beep(25, at=(12,), side=64)
    sheet = contact_sheet(clip, events={"seen": [0.5], "heard": [0.75]})
    left, width = MARGIN, sheet.width - 2 * MARGIN
    loud = columns_of(sheet, WAVE_BLUE)
    assert abs((loud.min() - left) / width * 25 / 24 - 0.5) < 0.01
    assert abs((loud.max() - left) / width * 25 / 24 - 0.52) < 0.01
    for time, colour in ((0.5, (255, 180, 84)), (0.75, (255, 107, 129))):
        marked = columns_of(sheet, colour)
        assert abs((marked.mean() - left) / width * 25 / 24 - time) < 0.02


def test_the_title_is_given_or_the_prompt() -> None:
    clip = replace(flash_and_beep(5, at=(), side=64), metadata={"prompt": "rain " * 500})
    plain = contact_sheet(clip, title="")
    prompt, given = contact_sheet(clip), contact_sheet(clip, title="thunder " * 500)
    assert prompt.height == given.height == plain.height + 34
    assert prompt.tobytes() != given.tobytes()
    assert not np.asarray(prompt)[:, -15:, 0].max() > 30  # nothing runs over the edge


def test_a_clip_without_sound_and_an_empty_sheet() -> None:
    clip = flash_and_beep(5, at=(), side=64)
    assert contact_sheet(replace(clip, audio=None, sampling_rate=None)).tobytes() != contact_sheet(clip).tobytes()
    with pytest.raises(InputError, match="0x2"):
        contact_sheet(clip, columns=0)
