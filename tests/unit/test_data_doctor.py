"""The doctor finds each fault in a clip made to have it, and nothing in one made without."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media_makers import beeps, flash_and_beep, flashes, packets, write_frames_at

from phonofilm.data.caption_findings import caption_findings
from phonofilm.data.cuts import cuts
from phonofilm.data.examination import examine
from phonofilm.data.findings import Finding, as_json, is_fit
from phonofilm.data.manifest import Item, read_manifest
from phonofilm.data.repair import repair
from phonofilm.data.sound_faults import drift_trouble
from phonofilm.data.windows import Bucket, WindowPlan
from phonofilm.errors import InputError
from phonofilm.media import Clip, check_container, read_clip, save_clip

PLAN = WindowPlan((Bucket(32, 32, 25),))
RNG = np.random.default_rng(5)


def scene(num_frames: int = 48, side: int = 32, seed: int = 0) -> np.ndarray:
    """A still, structured background with a square that moves."""
    coarse = np.random.default_rng(seed).integers(40, 200, (4, 4, 3), dtype=np.uint8)
    frames = np.repeat(np.kron(coarse, np.ones((side // 4, side // 4, 1), np.uint8))[None], num_frames, 0)
    for i, frame in enumerate(frames):
        frame[20:26, i % 24 : i % 24 + 6] = 255
    return frames


def noise(channels: int = 2, seconds: float = 2.0) -> np.ndarray:
    return RNG.normal(0, 0.1, (channels, round(48000 * seconds))).astype(np.float32)


def clip(frames: np.ndarray | None = None, wave: np.ndarray | None = None, rate: int = 24) -> Clip:
    return Clip(scene() if frames is None else frames, Fraction(rate), noise() if wave is None else wave, 48000)


def kinds(path: Path, caption: str | None = "a square", **options: object) -> list[tuple[str, str]]:
    (found,) = examine([Item(path, caption)], PLAN, **options)  # type: ignore[arg-type]
    return [(finding.severity, finding.kind) for finding in found if finding.severity != "note"]


def saved(made: Clip, tmp_path: Path) -> Path:
    return save_clip(made, tmp_path / "a.mp4")


def test_a_sound_clip_has_no_findings(tmp_path: Path) -> None:
    assert kinds(saved(clip(), tmp_path)) == []


def bursts() -> np.ndarray:
    wave = noise()
    wave[:, 12000:] = 0
    return wave


@pytest.mark.parametrize(
    ("wave", "expected"),
    [
        (np.zeros((2, 96000), np.float32), ("error", "silence")),
        (bursts(), ("warning", "silence")),
        (np.clip(noise() * 30, -1, 1), ("error", "clipping")),
        (np.clip(noise() * 5, -1, 1), ("warning", "clipping")),
        (noise() * np.array([[1], [0]], np.float32), ("warning", "dead_channel")),
        (np.repeat(noise(1), 2, 0), ("warning", "dual_mono")),
        (noise(1) * np.array([[1], [-1]], np.float32), ("error", "opposite_channels")),
    ],
)
def test_faults_of_the_sound(tmp_path: Path, wave: np.ndarray, expected: tuple[str, str]) -> None:
    assert kinds(saved(clip(wave=wave), tmp_path)) == [expected]


def test_no_sound_is_a_warning_or_refused(tmp_path: Path) -> None:
    path = saved(replace(clip(), audio=None, sampling_rate=None), tmp_path)
    assert kinds(path) == [("warning", "no_sound")]
    assert kinds(path, refuse_silent=True) == [("error", "no_sound")]
    (found,) = examine([Item(path, "x", audio=path)], PLAN)
    assert [f.kind for f in found] == ["no_sound"]


def even(rate: int, count: int = 48) -> list[Fraction]:
    return [Fraction(i, rate) for i in range(count)]


@pytest.mark.parametrize(("start", "expected"), [(Fraction(1, 50), []), (Fraction(3, 10), [("error", "start_gap")])])
def test_late_sound(tmp_path: Path, start: Fraction, expected: list) -> None:
    wave = noise(1, float(2 - start))
    path = write_frames_at(tmp_path / "a.mp4", scene(), even(24), wave=wave, wave_start=start)
    assert kinds(path) == expected


def test_variable_rate(tmp_path: Path) -> None:
    times = [time + (Fraction(1, 12) if i > 30 else 0) for i, time in enumerate(even(24))]
    path = write_frames_at(tmp_path / "a.mp4", scene(), times, wave=noise(1, 2.08))
    assert kinds(path) == [("warning", "variable_rate")]


def test_tracks_at_different_clocks_drift(tmp_path: Path) -> None:
    path = write_frames_at(tmp_path / "a.mp4", scene(96), even(25, 96), wave=noise(1, 4.0))
    assert kinds(path) == [("error", "drift")]


def test_sound_longer_or_shorter_than_the_picture_is_no_drift() -> None:
    def kind(sound: float) -> str | None:
        trouble = drift_trouble(Fraction(4), Fraction(sound), Fraction(24))
        return None if trouble is None else trouble.kind

    assert [kind(seconds) for seconds in (4, 4.05, 4.6, 3.0, 4 * 25 / 24, 4 * 24 / 30)] == [
        *[None] * 3,
        "sound_short",
        "drift",
        "drift",
    ]


@pytest.mark.parametrize("gap", [0.48, -0.48, 1 / 3])
def test_a_start_gap_is_no_drift(gap: float) -> None:
    """12 s of sound that begins 0.48 s off, to the picture's end or as long as the picture: 25/24 is a wrong clock, too."""
    for sound in (12.0, 12.0 - gap):
        assert drift_trouble(Fraction(12), Fraction(sound), Fraction(24), Fraction(gap)) is None
    assert drift_trouble(Fraction(12), Fraction(12.5), Fraction(24), Fraction(0)) is not None


def test_sound_that_holds_no_numbers_is_an_error(tmp_path: Path) -> None:
    picture = save_clip(clip(wave=noise(1)), tmp_path / "a.mp4")
    sound = tmp_path / "a.wav"
    wave = noise(1)[0]
    wave[4800:4900] = np.nan
    data = wave.astype("<f4").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        3,
        1,
        48000,
        192000,
        4,
        32,
        b"data",
        len(data),
    )
    sound.write_bytes(header + data)
    (found,) = examine([Item(picture, "a square", sound)], PLAN)
    assert [(finding.severity, finding.kind) for finding in found] == [("error", "unreadable")]
    assert "not numbers" in found[0].message


@pytest.mark.parametrize(("stretch", "expected"), [(1, []), (Fraction(102, 100), [("error", "drift")])])
def test_timestamps_that_part_from_the_samples(tmp_path: Path, stretch: Fraction | int, expected: list) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=24, width=32, height=32)
        video.pix_fmt = "yuv420p"
        sound = output.add_stream("pcm_s16le", rate=48000, layout="mono")
        wave = (noise(1) * 32767).astype(np.int16)
        for i, pixels in enumerate(scene()):
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(wave[:, 2000 * i : 2000 * i + 2000], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), round(2000 * i * stretch)
            output.mux(sound.encode(frame))
        output.mux(video.encode(None))
    assert kinds(path) == expected


def test_a_cut_inside_the_window_and_one_after_it(tmp_path: Path) -> None:
    for first, expected in ((20, [("warning", "cut")]), (30, [])):
        frames = np.concatenate([scene(first, seed=1), scene(48 - first, seed=2)])
        assert kinds(saved(clip(frames), tmp_path)) == expected


def thumbs(frames: np.ndarray) -> np.ndarray:
    return frames[:, 4:28, 4:28].mean(-1).astype(np.float32)


def test_what_is_no_cut() -> None:
    calm, other = thumbs(scene(seed=1)), thumbs(scene(seed=2))
    assert cuts(np.concatenate([calm[:20], other[:20]])) == [20]
    flash = calm.copy()
    flash[12] = 255
    lamp = calm.copy()
    lamp[20:] = np.clip(lamp[20:] * 1.8 + 20, 0, 255)
    fade = np.linspace(0, 1, 48)[:, None, None].astype(np.float32) * other + np.linspace(1, 0, 48)[:, None, None] * calm
    snow = RNG.integers(0, 255, (48, 24, 24)).astype(np.float32)
    for still in (calm, flash, lamp, fade, snow, calm[:1], thumbs(flash_and_beep(48, side=32).frames)):
        assert cuts(np.asarray(still, np.float32)) == []


def test_frozen_short_and_unreadable_clips(tmp_path: Path) -> None:
    assert kinds(saved(clip(scene()[:1].repeat(48, 0)), tmp_path)) == [("warning", "frozen")]
    short = saved(clip(scene(12), noise(2, 0.5)), tmp_path)
    assert kinds(short) == [("error", "too_short")]
    short.write_bytes(short.read_bytes()[:900])
    assert kinds(short) == [("error", "unreadable")]


def captions(*texts: str | None) -> list[list[str]]:
    items = [Item(Path(f"{i}.mp4"), text) for i, text in enumerate(texts)]
    return [[finding.kind for finding in about] for about in caption_findings(items)]


def test_a_picture_that_changes_once_is_not_frozen(tmp_path: Path) -> None:
    frames = scene()[:1].repeat(240, 0)
    frames[120, 8:12, 8:12] = 255
    assert kinds(saved(clip(frames, noise(seconds=10)), tmp_path)) == []


def test_captions_missing_and_empty(tmp_path: Path) -> None:
    assert captions(None, "", "a ball") == [["caption_missing"], ["caption_empty"], []]
    assert kinds(saved(clip(), tmp_path), None) == [("error", "caption_missing")]


def test_the_convention_of_captions() -> None:
    good = '[VISUAL]: a man [SPEECH]: "Good evening." [SOUND]: rain'
    assert captions("a ball", "a [red] ball") == [[], []]
    assert captions(good, "[VISUAL]: a frog [YODA_SPEECH]: hm", "[VISUAL]: a tree") == [[], [], []]
    assert captions(good, "a ball") == [[], ["caption_mixed"]]
    for broken in (
        "[VISUAL]: [SPEECH]: hi",
        "[SPEECH]: hi",
        "[SPEECH]: hi [VISUAL]: a man",
        "a man [VISUAL]: a man",
        "[VISUAL]: a [VISUAL]: b",
        "[Visual]: a man",
        "[VISUAL] a man",
    ):
        assert captions(broken) == [["caption_tags"]], broken


def test_a_set_is_fit_when_nothing_is_an_error() -> None:
    warning, error = Finding("warning", "a", "cut", ""), Finding("error", "b", "silence", "", 1.0)
    assert is_fit([warning])
    assert not is_fit([warning, error])
    assert as_json([error], 2)["fit"] is False
    assert as_json([error], 2)["findings"][0]["value"] == 1.0


def test_repair_copies_what_it_can_fix_and_leaves_the_originals(tmp_path: Path) -> None:
    made = flash_and_beep(48, at=(24,), side=32)
    made.frames[24:30] = 255
    assert made.audio is not None
    data, fixed = tmp_path / "data", tmp_path / "fixed"
    data.mkdir()
    late = write_frames_at(
        data / "late.mp4", made.frames, even(24), wave=made.audio[:, 24000:], wave_start=Fraction(1, 2)
    )
    save_clip(clip(), data / "good.mp4")
    (data / "list.csv").write_text(f"file,caption,end,repeats\n{late.name},a flash,1.9,2\ngood.mp4,,,\n")
    before = late.read_bytes()
    items = read_manifest(data / "list.csv")
    (copy,) = repair(items, list(examine(items, PLAN)), fixed)
    assert late.read_bytes() == before
    assert packets(copy, "video") == packets(late, "video")
    assert check_container(copy).start_difference == 0
    read = read_clip(copy)
    assert read.audio is not None
    assert abs(beeps(read.audio, 48000)[0] / 48000 - flashes(read.frames)[0] / 24) < 2e-3
    again = read_manifest(fixed)
    assert [(i.file.resolve(), i.caption, i.end, i.repeats) for i in again] == [
        (copy, "a flash", Fraction(19, 10), 2),
        (data / "good.mp4", "", None, 1),
    ]
    assert "start_gap" not in [f.kind for about in examine(again, PLAN) for f in about]
    with pytest.raises(InputError, match="not an empty folder"):
        repair(items, [[], []], fixed)
