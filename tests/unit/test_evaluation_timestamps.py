"""Clips whose timestamps leave something out: compat reads them as the published code does, fixed by their clock."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.av_align import _on_its_clock

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
    samples, rate = clip.sound
    assert (rate, samples.shape) == (RATE, (1, RATE // 2))
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


def test_fixed_sees_no_jump_where_a_frame_was_left_out(clip: ClipFacts) -> None:
    even, step, steps = _on_its_clock(np.array([0.0, 0.04, 0.08, 0.16, 0.20]), np.array([1.0, 1.0, 2.0, 1.0]))
    assert step == pytest.approx(0.04)
    assert even == pytest.approx([0.0, 0.02, 0.06, 0.12, 0.18])
    assert steps == pytest.approx([1.0] * 4)
    assert clip.every_grey.times == pytest.approx([index / 25 for index in range(25) if index not in LEFT_OUT])
    _, _, held = _on_its_clock(np.array([0.0, 0.04, 0.04, 0.08]), np.array([1.0, 5.0, 1.0]))
    assert held == pytest.approx([1.0, 0.0, 1.0]), "two frames of one time"


def test_channels_that_cancel_are_silent_in_their_mean_alone(tmp_path: Path) -> None:
    tone = np.sin(np.arange(48_000) / 20).astype(np.float32)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", ""))
        file.writeframes(np.round(np.stack([tone, -tone], axis=1) * 16384).astype("<i2").tobytes())
    facts = ClipFacts(tmp_path / "a.wav", "a")
    (compat,), (fixed,) = (build(("amplitude",), Setup(profile=profile)) for profile in ("compat", "fixed"))
    assert compat.measure(facts).reason == "the mean of the channels is silent"
    assert fixed.measure(facts).values["rms"] == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert fixed.measure(facts).values["peak_dbfs"] == pytest.approx(-6.0, abs=0.5)
