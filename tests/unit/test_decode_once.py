"""Several readers of one picture are given the same frames, decoded once where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media_makers import coloured_frames

from phonofilm.media import Clip, check_container, decode_once, save_clip
from phonofilm.media.decode_once import Decode, DecodeOnce
from phonofilm.media.picture import read_picture
from phonofilm.media.window import Window


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = coloured_frames(24)
    frames[7] = frames[6]  # one that is frozen
    return save_clip(Clip(frames, 24), tmp_path_factory.mktemp("clip") / "a.mp4")


def readings(clip: Path, decode: Decode) -> list[object]:
    green = read_picture(clip, Window(plain=True), decode, lambda rgb: rgb[..., 1])
    return [check_container(clip, decode), green.frames.tolist(), read_picture(clip, Window(), decode).frames.tolist()]


@pytest.mark.parametrize(("most", "times"), [(decode_once.MOST_BYTES, 1), (1000, 3)])
def test_every_reader_reads_what_it_would_alone(
    clip: Path, most: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(DecodeOnce):
        decodings = 0

        def _keeping(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
            self.decodings += 1
            return super()._keeping(frames)

    monkeypatch.setattr(decode_once, "MOST_BYTES", most)
    counted = Counted()
    assert readings(clip, counted) == readings(clip, decode_once.decode_for_one)
    assert counted.decodings == times


def test_frames_of_a_reading_that_was_broken_off_are_not_taken_for_all(clip: Path) -> None:
    decode = DecodeOnce()
    short = read_picture(clip, Window(max_frames=3), decode)
    whole = read_picture(clip, Window(), decode)
    assert (len(short.frames), len(whole.frames)) == (3, 24)
    np.testing.assert_array_equal(short.frames, whole.frames[:3])
