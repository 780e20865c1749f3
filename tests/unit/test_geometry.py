"""Sizes, rates and the shared clock."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry, clock_positions, frames_for_seconds, nearest_num_frames, parse_frame_rate


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("60000/1001", Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (59.94, Fraction(60000, 1001)),
    ],
)
def test_frame_rates_are_exact(given: float | str, exact: Fraction) -> None:
    assert parse_frame_rate(given) == exact


@pytest.mark.parametrize("bad", [0, -24, 1000, "fast", float("nan"), float("inf"), "1/0"])
def test_impossible_frame_rates_are_refused(bad: float | str) -> None:
    with pytest.raises(InputError, match="frame rate"):
        parse_frame_rate(bad)


def test_the_released_sizes() -> None:
    clip = ClipGeometry(height=352, width=640, num_frames=193, frame_rate=Fraction(24))
    assert (clip.video_tokens, clip.audio_latents, clip.num_samples) == (43120, 403, 386000)
    large = ClipGeometry(height=720, width=1280, num_frames=193, frame_rate=Fraction(24))
    assert (large.video_tokens, large.audio_latents) == (176400, 403)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"height": 350}, "use 352"),
        ({"width": 0}, "outside"),
        ({"width": -16}, "outside"),
        ({"height": 10**6}, "outside"),
        ({"num_frames": 192}, "use 193"),
        ({"num_frames": 0}, "outside"),
        ({"num_frames": 10**6 + 1}, "outside"),
    ],
)
def test_impossible_sizes_say_what_to_use(change: dict[str, int], hint: str) -> None:
    sizes = {"height": 352, "width": 640, "num_frames": 193} | change
    with pytest.raises(InputError, match=hint):
        ClipGeometry(frame_rate=Fraction(24), **sizes)


def test_frame_counts() -> None:
    assert [nearest_num_frames(n) for n in (1, 2, 4, 48, 192)] == [1, 1, 5, 49, 193]
    assert frames_for_seconds(2.0, Fraction(24)) == 49
    assert frames_for_seconds(8.04, Fraction(24)) == 193


def test_the_clock_puts_both_tracks_on_one_axis() -> None:
    plain = clock_positions(4, 24.0, 50.0)
    assert np.allclose(plain, [0, 50 / 6, 100 / 6, 25], rtol=1e-6)
    biased = clock_positions(3, 24.0, 50.0, first_frame_bias=True)
    assert np.allclose(biased, [0, 50 / 24, 50 * 5 / 24], rtol=1e-6)
