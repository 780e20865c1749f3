"""Clips whose timestamps leave something out: compat reads them as the published code does, fixed by their clock."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Setup

RATE, HOLE = 48_000, 24_000  # a hole of half a second
LEFT_OUT = (5, 6, 13)  # frames of 25 at 25 per second


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipFacts:
    path = tmp_path_factory.mktemp("clips") / "holes.mkv"
    pictures = np.random.default_rng(1).integers(0, 255, (25, 32, 48, 3), np.uint8)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=25, width=48, height=32, pix_fmt="yuv420p")
        picture.codec_context.time_base = Fraction(1, 25)
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for index, rgb in enumerate(pictures):
            if index not in LEFT_OUT:
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for start, level in ((0, 0.25), (RATE // 4 + HOLE, 0.5)):
            block = av.AudioFrame.from_ndarray(np.full((1, RATE // 4), round(level * 32768), np.int16), "s16", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(sound.encode(block))
        container.mux(sound.encode())
    return ClipFacts(path, "holes")


def test_every_frame_is_what_opencv_reads(clip: ClipFacts) -> None:
    capture = cv2.VideoCapture(str(clip.path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
    assert len(frames) == 25 - len(LEFT_OUT)
    assert (clip.every_grey.frames == np.stack(frames)).all()
    assert float(clip.every_grey.average_rate) == capture.get(cv2.CAP_PROP_FPS)
    assert not clip.every_grey.regular


def test_at_a_constant_rate_frames_are_held(clip: ClipFacts) -> None:
    shown = [index - 1 - (index == 6) if index in LEFT_OUT else index for index in range(25)]
    places = [index - sum(one < index for one in LEFT_OUT) for index in shown]
    assert (clip.plain_grey == clip.every_grey.frames[places]).all()
    assert clip.frame_rate == 25


def test_holes_in_the_sound_are_closed_in_compat_and_silent_in_fixed(clip: ClipFacts) -> None:
    wave, rate = clip.sound
    assert (rate, wave.shape) == (RATE, (1, RATE // 2))
    assert len(clip.extracted(16_000, "s16")[0]) == 8_000
    timed = clip.aligned_wave(RATE)
    assert len(timed) == RATE // 2 + HOLE
    assert not timed[RATE // 4 : RATE // 4 + HOLE].any()
    (compat,), (fixed,) = (build(("amplitude",), Setup(profile=profile)) for profile in ("compat", "fixed"))
    quarter, half = 0.25**2, 0.5**2
    assert compat.measure(clip).values["rms"] == pytest.approx(((quarter + half) / 2) ** 0.5)
    assert fixed.measure(clip).values["rms"] == pytest.approx(((quarter + half) / 4) ** 0.5)


def test_without_holes_both_are_the_same_arrays(tmp_path: Path) -> None:
    wav = tmp_path / "a.wav"
    with av.open(str(wav), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(np.full((1, RATE), 100, np.int16), "s16", "mono")
        block.sample_rate = RATE
        container.mux(sound.encode(block))
        container.mux(sound.encode())
    facts = ClipFacts(wav, "a")
    assert facts.timed_sound[0] is facts.sound[0]
    assert facts.timed_wave(RATE) is facts.wave(RATE)
