"""The metrics that need no weights, against the figures of the programs that define them, and on planted offsets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.evaluation_clips import ball, noise, row, shown, sound_moved

from phonofilm.errors import CheckpointError
from phonofilm.evaluation import loudness
from phonofilm.evaluation import onset_envelope as onset_envelope_module
from phonofilm.evaluation.flow import directograms
from phonofilm.evaluation.lag import GRID, find_lag
from phonofilm.evaluation.loudness import STANDARD, cookbook_filters, integrated_loudness
from phonofilm.evaluation.metrics.av_align import motion_peaks, overlap
from phonofilm.evaluation.metrics.dnsmos import WINDOW as DNSMOS_WINDOW
from phonofilm.evaluation.metrics.dnsmos import Dnsmos, _file_of_speechmos, _window_seconds
from phonofilm.evaluation.metrics.onset_lag import CLEAREST_RIVAL, impacts_of
from phonofilm.evaluation.networks.onnx_tensors import read_onnx_floats
from phonofilm.evaluation.networks.p835 import P835
from phonofilm.evaluation.onset_envelope import HOP, onset_envelope, onset_peaks
from phonofilm.evaluation.sync import match, summarise
from phonofilm.media import onsets, save_clip
from phonofilm.media.onsets import onset_strength, onset_times
from phonofilm.nano.reading.frame_reader import read_frames

OFFSETS = (-0.5, -0.2, -0.1, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Heard:
    """The sound that a metric asks a clip for, and nothing else."""

    pcm: np.ndarray
    item: None = None

    def extracted(self, rate: int, sample_format: str) -> np.ndarray:
        return self.pcm[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


def test_a_tone_is_as_loud_as_the_standard_says() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(48_000 * 5) / 48_000)[None]
    assert integrated_loudness(tone, 48_000, STANDARD) == pytest.approx(-3.01, abs=0.01)
    assert integrated_loudness(tone * 10 ** (-20 / 20), 48_000, STANDARD) == pytest.approx(-23.01, abs=0.01)


def test_loudness_is_that_of_pyloudnorm() -> None:
    rng = np.random.default_rng(0)
    rng.standard_normal(64_000)
    rng.standard_normal(176_400).astype(np.float32)
    wave = 0.2 * rng.standard_normal(144_000) * np.linspace(0.01, 1, 144_000)
    assert integrated_loudness(wave[None], 48_000, cookbook_filters(48_000)) == pytest.approx(-15.1186053, abs=1e-3)
    assert integrated_loudness(wave[None, :9_000], 48_000, cookbook_filters(48_000)) is None


def test_long_sounds_are_measured_in_parts_of_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = 0.2 * np.random.default_rng(0).standard_normal(24_000 * 12) * np.linspace(0.01, 1, 24_000 * 12)

    def found() -> list[float]:
        return [
            integrated_loudness(wave[None], 24_000, cookbook_filters(24_000)) or 0.0,
            *onset_envelope(wave.astype(np.float32), 24_000),
            *onset_strength(wave, 24_000),
        ]

    whole = found()
    for module in (loudness, onset_envelope_module, onsets):
        monkeypatch.setattr(module, "AT_A_TIME", 33)
    np.testing.assert_allclose(found(), whole, rtol=1e-6, atol=1e-6)


def test_onsets_are_those_of_librosa() -> None:
    wave = np.zeros(44_100 * 4, np.float32)
    for k in range(9):
        at, n = int((0.3 + 0.41 * k) * 44_100), np.arange(4000)
        wave[at : at + 4000] += np.exp(-n / 800) * np.sin(2 * np.pi * (300 + 70 * k) * n / 44_100)
    rng = np.random.default_rng(0)
    rng.standard_normal(64_000)
    envelope = onset_envelope(wave + 0.001 * rng.standard_normal(len(wave)).astype(np.float32), 44_100)
    assert envelope.sum() == pytest.approx(459.96527, rel=1e-5)
    assert envelope.max() == pytest.approx(24.89608, rel=1e-5)
    frames = np.rint(onset_peaks(envelope, 44_100) * 44_100 / HOP)
    assert frames.tolist() == [26, 62, 97, 132, 168, 203, 238, 274, 309]


def test_dnsmos_is_that_of_speechmos() -> None:
    from phonofilm.evaluation.metric import Setup

    rng, t = np.random.default_rng(0), np.arange(152_000) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 12)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))
    pcm = np.clip(np.rint((0.1 * voice + 0.005 * rng.standard_normal(152_000)) * 32768), -32768, 32767).astype(np.int16)
    measured = Dnsmos(Setup()).measure(Heard(pcm))  # type: ignore[arg-type]
    assert measured.values["p808"] == pytest.approx(2.2723503, abs=1e-4)
    assert measured.values["ovrl"] == pytest.approx(1.3029739, abs=1e-4)
    assert measured.detail == {"windows": 1, "doubled": False}


def test_windows_of_p835_that_share_their_sound_score_as_each_alone() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = _file_of_speechmos("sig_bak_ovr.onnx")
    wave = np.random.default_rng(0).normal(0, 0.1, 16_000 * 11).astype(np.float32) * np.linspace(0, 1, 16_000 * 11)
    wave = wave.astype(np.float32)
    assert _window_seconds(len(wave)) == [0, 1]
    shared = P835(read_onnx_floats(file)).score(torch.from_numpy(wave), [0, 1]).numpy()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for found, second in zip(shared, (0, 1), strict=True):
        window = wave[None, second * 16_000 : second * 16_000 + DNSMOS_WINDOW]
        np.testing.assert_allclose(found, session.run(None, {"input_1": window})[0][0], atol=1e-5)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    for content in (b"\xff" * 40, b"\x3a\x04\x2a\x02\x10"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="no ONNX file"):
            read_onnx_floats(file)


def test_av_align_takes_each_peak_once() -> None:
    seen = np.array([0.5, 1.0, 1.03])
    assert overlap([0.51, 0.52, 1.02], seen, 1 / 24) == (2 / 4, 2)
    assert overlap([], np.empty(0), 1 / 24) == (0.0, 0)
    assert motion_peaks(np.array([0.0, 0.05, 0.0, 0.3, 0.2, 0.2, 0.25, 0.1])).tolist() == [3, 6]


@pytest.fixture(scope="module")
def ball_files(folder: Path) -> dict[float, Path]:
    clip = ball(7, num_frames=145, size=64)
    files = {offset: folder / f"ball{offset:+.1f}.mp4" for offset in (0.0, *OFFSETS)}
    for offset, path in files.items():
        save_clip(sound_moved(clip, offset), path)
    return files


def test_planted_offsets_are_found_with_their_sign(ball_files: dict[float, Path]) -> None:
    found = {offset: row("onset_lag", path).values["lag_ms"] for offset, path in ball_files.items()}
    for offset, lag in found.items():
        assert lag == pytest.approx(offset * 1000, abs=20)
        assert lag - found[0.0] == pytest.approx(offset * 1000, abs=5)


def test_another_clips_sound_has_no_lag(folder: Path) -> None:
    clip, other = ball(4, 145, 64), ball(1, 145, 64)
    path = folder / "shuffled.mp4"
    assert other.audio is not None
    save_clip(type(clip)(clip.frames, clip.frame_rate, other.audio, other.sampling_rate), path)
    measured = row("onset_lag", path)
    assert measured.state == "not_applicable"
    assert "no detectable" in measured.reason or "repeat" in measured.reason


def strikes(seed: int, rebounds: bool) -> tuple[np.ndarray, np.ndarray]:
    """Six seconds of a block that falls 20 pixels a frame, at times drawn at random, and a click (16 kHz) where it strikes.

    It rebounds half as fast and stops at the top 0.3 s later, or it lies for 0.12 s and is lifted softly.
    """
    rng, rate, seconds = np.random.default_rng(seed), 16_000, 6.0
    events = 0.7 + np.cumsum(rng.uniform(0.55, 1.2, 12))
    events = events[events < seconds - 0.3]
    ground = np.full((120, 160), 110, np.uint8) + rng.integers(0, 12, (120, 160), np.uint8)
    ground[100:] -= 60
    frames = np.repeat(ground[None, :, :, None], round(24 * seconds), 0).repeat(3, 3)
    wave = rng.normal(0, 1e-4, round(rate * seconds))
    click = np.exp(-np.arange(rate // 8) / (0.02 * rate))
    for event in events:
        start = round(event * rate)
        wave[start : start + len(click)] += 0.5 * click * rng.normal(0, 1, len(click))
    for index, frame in enumerate(frames):
        since = index / 24 - events
        height, near = 1.0, since[(since > -0.15) & (since < 0.42)]
        if len(near):
            height = -near[0] / 0.15 if near[0] < 0 else near[0] / 0.3 if rebounds else _lifted(near[0])
        top = round(70 - 70 * min(1.0, height))
        frame[top : top + 30, 60:100] = 40
    return frames, wave


def _lifted(since: float) -> float:
    share = np.clip((since - 0.12) / 0.3, 0, 1)
    return float(share * share * (3 - 2 * share))


@pytest.mark.parametrize("rebounds", [True, False])
def test_strikes_too_fast_for_farnebacks_flow_are_seen(rebounds: bool, folder: Path) -> None:
    frames, wave = strikes(3, rebounds)
    for offset in (0.0, 0.5):
        moved = np.roll(wave, round(offset * 16_000))
        measured = row("onset_lag", shown(folder / f"strikes{rebounds}{offset:+}.mp4", frames, moved))
        assert measured.state == "ok", measured.reason
        assert measured.values["lag_ms"] == pytest.approx(1000 * offset, abs=20)


def test_a_small_disc_that_flow_loses_strikes_where_it_stops() -> None:
    y, x = np.mgrid[:180, :320]
    heights = [38.0] * 10 + [38 + 72 * (step / 6) ** 2 for step in range(1, 7)] + [110.0] * 8  # up to 22 pixels a frame
    grey = np.stack([np.where((x - 160) ** 2 + (y - height) ** 2 < 64, 40, 120) for height in heights]).astype(np.uint8)
    assert int(impacts_of(directograms(grey)).argmax()) + 1 == heights.index(110.0)


def test_a_swing_that_turns_is_no_stop() -> None:
    angle = np.linspace(0, np.pi, 25)
    turning = np.maximum(0, np.cos(angle[:, None] - np.arange(12) * np.pi / 6))
    assert impacts_of(turning).max() < 0.1 * turning.sum(1).max()
    stopping = turning * (np.arange(25) < 12)[:, None]
    assert impacts_of(stopping).argmax() == 11


def test_curves_that_have_nothing_to_do_with_each_other_are_hardly_ever_said_to() -> None:
    """One in a hundred is allowed; shifts alone let through one in ten of so short curves."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(30):
        first, second = (np.zeros(8 * GRID) for _ in range(2))
        for curve in (first, second):
            times = np.cumsum(rng.uniform(0.45, 1.2, 12))
            curve[(times[times < 8] * GRID).astype(int)] = rng.uniform(0.5, 1.0, int((times < 8).sum()))
        blurred = np.hanning(12)
        lag = find_lag(np.convolve(first, blurred, "same"), np.convolve(second, blurred, "same"))
        found += lag.p <= 0.01 and lag.rival <= CLEAREST_RIVAL
    assert found <= 1


def test_events_that_repeat_evenly_have_no_lag_but_both_candidates() -> None:
    hits = np.zeros(8 * GRID)
    hits[60 :: round(0.734 * GRID)] = 1.0
    loud = np.random.default_rng(0).uniform(0.2, 1.0, len(hits))  # no two sounds are equally loud
    blurred = np.hanning(12)
    found = find_lag(np.convolve(hits, blurred, "same"), np.convolve(hits * loud, blurred, "same"))
    assert found.rival > CLEAREST_RIVAL
    assert sorted(abs(round(time, 2)) for time in (found.seconds, found.rival_seconds)) == pytest.approx(
        [0, 0.735], abs=0.01
    )


def test_av_align_is_reported_beside_its_chance_level(ball_files: dict[float, Path]) -> None:
    for profile in ("compat", "fixed"):
        measured = row("av_align", ball_files[0.0], profile)  # type: ignore[arg-type]
        assert measured.state == "ok"
        values = measured.values
        assert values["above_chance"] == pytest.approx(values["av_align"] - values["chance"])
    assert row("av_align", ball_files[0.0], "compat").series != measured.series


def test_nano_sync_is_what_nano_measure_reports(folder: Path) -> None:
    clip = ball(7, num_frames=49, size=64)
    path = folder / "nano.mp4"
    save_clip(clip, path)
    measured = row("nano_sync", path)
    assert clip.audio is not None
    assert clip.sampling_rate is not None
    events = read_frames(clip.frames, clip.frame_rate).events
    expected = summarise([match(events, onset_times(clip.audio[0], clip.sampling_rate).tolist())], 1 / 24)
    assert measured.detail["events"] == expected.events
    assert measured.values["within"] == pytest.approx(expected.within)
    assert measured.values["offset_ms"] == pytest.approx(expected.offset_ms, abs=2)
    assert measured.values["chance"] < 0.6


@pytest.mark.parametrize("metric", ["av_align", "onset_lag"])
def test_what_cannot_be_measured_says_why(metric: str, folder: Path) -> None:
    moving = ball(4, num_frames=97, size=32).frames
    still = np.repeat(moving[:1], 97, axis=0)
    cases = {
        "silent": shown(folder / "silent.mp4", moving, np.zeros(64_000)),
        "never changes": shown(folder / "still.mp4", still, noise(4)),
    }
    for reason, path in cases.items():
        measured = row(metric, path)
        assert (measured.state, measured.values) == ("not_applicable", {})
        assert reason in measured.reason
    short = shown(folder / "short.mp4", moving[:7], noise(0.29))
    assert row("onset_lag", short).state == "not_applicable"
    assert "too short" in row("onset_lag", short).reason
    assert row("container", short).state == row("amplitude", short).state == "ok"
    assert "lufs" not in row("amplitude", short).values


def test_silence_has_no_loudness_and_no_opinion_score(folder: Path) -> None:
    path = shown(folder / "quiet.mp4", ball(4, num_frames=25, size=32).frames, np.zeros(16_000))
    assert [row(name, path).reason for name in ("amplitude", "dnsmos")] == ["the sound is silent"] * 2
    assert "the sound is silent" in row("container", path).detail["problems"]


@pytest.mark.slow
@pytest.mark.skipif(
    "PHONOFILM_MOVA_CLIP" not in os.environ, reason="set PHONOFILM_MOVA_CLIP to MOVA's published cat clip"
)
def test_the_published_clip_scores_as_the_original_code_says() -> None:
    clip = Path(os.environ["PHONOFILM_MOVA_CLIP"])
    assert row("dnsmos", clip).values["p808"] == pytest.approx(2.52306867, abs=1e-4)
    assert row("dnsmos", clip).values["sig"] == pytest.approx(1.209000764, abs=1e-4)
    aligned = row("av_align", clip)
    assert aligned.values["av_align"] == pytest.approx(9 / 62, abs=1e-9)
    assert aligned.detail["mean_flow"] == pytest.approx(2.7397409830, rel=1e-6)
    amplitude = row("amplitude", clip).values
    assert amplitude["rms"] == pytest.approx(0.11160255, abs=1e-7)
    assert amplitude["lufs"] == pytest.approx(-21.01662, abs=1e-4)
    assert row("onset_lag", clip).state == "not_applicable"
