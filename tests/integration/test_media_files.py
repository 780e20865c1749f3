"""What is in the written files, read back with libav alone: lengths, starts, and flashes that meet their beeps."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.media_makers import beeps, flash_and_beep, flashes

from phonofilm.geometry import parse_frame_rate
from phonofilm.media import read_clip, save_clip

RATES = ["23.976", "24", "25", "29.97", "30", "60"]
SAMPLING_RATES = [16000, 44100, 48000]
AAC_FRAME = 1024


def decoded(path: Path) -> tuple[list[Fraction], np.ndarray, list[Fraction]]:
    """Times of all frames; the sound as a player presents it [channels, n]; times of all sound frames."""
    with av.open(str(path)) as container:
        frames = [Fraction(frame.pts) * frame.time_base for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = list(container.decode(audio=0))
        stream = container.streams.audio[0]
        end = None if stream.duration is None else stream.duration * stream.time_base * stream.codec_context.sample_rate
    wave = np.concatenate([frame.to_ndarray() for frame in sound], axis=1)
    times = [Fraction(frame.pts) * frame.time_base for frame in sound]
    return frames, wave[:, : None if end is None else int(end)], times


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    rate=st.sampled_from(RATES),
    sampling_rate=st.sampled_from(SAMPLING_RATES),
    steps=st.integers(0, 12),
    height=st.sampled_from([16, 32, 48]),
    width=st.sampled_from([16, 32, 64]),
    channels=st.sampled_from([1, 2]),
    kind=st.sampled_from(["mp4", "mp4", "webm"]),
)
def test_both_streams_have_exactly_the_length_of_the_grid(
    rate: str, sampling_rate: int, steps: int, height: int, width: int, channels: int, kind: str
) -> None:
    num_frames = 1 + 4 * steps
    made = flash_and_beep(num_frames, rate, sampling_rate, at=(num_frames // 2,), channels=channels)
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    clip = type(made)(frames, made.frame_rate, made.audio, sampling_rate)
    exact = parse_frame_rate(rate)
    with TemporaryDirectory() as folder:
        path = save_clip(clip, Path(folder) / f"a.{kind}")
        times, wave, sound_times = decoded(path)
        with av.open(str(path)) as container:
            picture, sound = container.streams.video[0], container.streams.audio[0]
            written = sound.codec_context.sample_rate
            assert (picture.width, picture.height, picture.average_rate) == (width, height, exact)
            assert written == (48000 if kind == "webm" else sampling_rate)
            samples = int(written * num_frames / exact)
            assert wave.shape == (channels, samples)
            if kind == "mp4":
                assert picture.duration * picture.time_base == num_frames / exact
                assert sound.duration * sound.time_base == Fraction(samples, written)
                assert times == [i / exact for i in range(num_frames)]
                assert container.duration == pytest.approx(float(num_frames / exact) * av.time_base, abs=1)
            else:
                assert max(abs(time - i / exact) for i, time in enumerate(times)) <= Fraction(1, 1000)
                assert len(times) == num_frames
            assert sound_times[0] == 0


@pytest.mark.parametrize("kind", ["mp4", "webm"])
@pytest.mark.parametrize(("rate", "sampling_rate"), [("24", 48000), ("29.97", 44100), ("60", 16000), ("23.976", 48000)])
def test_each_beep_meets_its_flash_and_nothing_drifts(tmp_path: Path, kind: str, rate: str, sampling_rate: int) -> None:
    at = (3, 40, 77, 115)
    clip = flash_and_beep(121, rate, sampling_rate, at=at)
    path = save_clip(clip, tmp_path / f"a.{kind}")
    times, wave, _ = decoded(path)
    with av.open(str(path)) as container:
        bright = [
            i for i, frame in enumerate(container.decode(video=0)) if frame.to_ndarray(format="gray").mean() > 128
        ]
        written = container.streams.audio[0].codec_context.sample_rate
    assert tuple(bright) == at
    heard = [Fraction(sample, written) for sample in beeps(wave, written)]
    assert len(heard) == len(at)
    for seen, sound in zip((times[i] for i in bright), heard, strict=True):
        assert abs(sound - seen) <= Fraction(1, 1000)


@pytest.mark.parametrize("kind", ["mp4", "webm", "frames"])
def test_our_reader_gives_back_what_was_written(tmp_path: Path, kind: str) -> None:
    made = flash_and_beep(49, "29.97", 48000, at=(9, 30), channels=2)
    read = read_clip(save_clip(made, tmp_path / (kind if kind == "frames" else f"a.{kind}")))
    assert (read.frame_rate, read.num_frames, read.sampling_rate) == (made.frame_rate, 49, 48000)
    assert flashes(read.frames) == [9, 30]
    assert read.audio is not None
    assert made.audio is not None
    assert read.audio.shape == made.audio.shape
    assert np.abs(read.audio - made.audio).max() < 0.15
    for ours, theirs in zip(beeps(read.audio, 48000), beeps(made.audio, 48000), strict=True):
        assert abs(ours - theirs) <= 24


def test_the_encoders_priming_is_hidden_by_the_edit_list(tmp_path: Path) -> None:
    data = save_clip(flash_and_beep(25), tmp_path / "a.mp4").read_bytes()
    edits = [data[i + 4 :] for i in range(len(data)) if data.startswith(b"elst", i)]
    assert len(edits) == 2
    (count, length, skipped) = struct.unpack_from(">xxxxIIi", edits[1])
    scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    assert (count, skipped) == (1, AAC_FRAME)
    assert Fraction(length, scale) == Fraction(25, 24)


def test_packets_are_interleaved_for_playing_while_loading(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(241, at=(12, 200)), tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        places = {"video": 0.0, "audio": 0.0}
        for packet in sorted((p for p in container.demux() if p.size), key=lambda p: p.pos):
            places[packet.stream.type] = float(packet.dts * packet.time_base)
            assert abs(places["video"] - places["audio"]) < 2.5
