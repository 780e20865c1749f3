"""Windows lie where the plan says, and what is read from them keeps sound and picture together whatever the file's rate."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.media_makers import beeps, coloured_frames, flash_and_beep, flashes, set_display_matrix, write_frames_at

from phonofilm.data.manifest import Item
from phonofilm.data.probe import Facts, probe
from phonofilm.data.sets import Source, WeightedOrder, gather, read_items, read_sources
from phonofilm.data.window_reading import read_window
from phonofilm.data.windows import Bucket, ClipWindow, WindowPlan, parse_bucket, parse_mode, windows_of
from phonofilm.errors import InputError, MediaError
from phonofilm.media import Clip, save_clip

SMALL = Bucket(16, 16, 25)
TEN_SECONDS = Facts(360, 640, Fraction(10), Fraction(30), Fraction(0), True)


def flash_from(at: int, rate: Fraction | int, seconds: int = 3, sampling_rate: int = 48000) -> Clip:
    """White for 0.2 s from frame `at` on, with a beep that begins with it."""
    clip = flash_and_beep(int(rate * seconds), rate, sampling_rate, at=(at,), channels=2)
    clip.frames[at : at + int(rate / 5)] = 255
    return clip


RATES = [(16, 44100), ("24000/1001", 48000), (25, 22050), ("30000/1001", 44100), (30, 48000), (60, 48000)]
WITHIN = 1e-3  # seconds between a frame's timestamp and its sound


@pytest.mark.parametrize(("rate", "sampling_rate"), RATES)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(5, 2)])
def test_a_flash_and_its_beep_stay_together_at_any_rate(
    tmp_path: Path, rate: int | str, sampling_rate: int, start: Fraction
) -> None:
    exact = Fraction(rate)
    at = int(exact * start) + 8
    path = save_clip(flash_from(at, exact, 4, sampling_rate), tmp_path / "a.mp4")
    for plan in (WindowPlan((SMALL,)), WindowPlan((Bucket(16, 16, 13),), exact)):
        (window,) = windows_of(Item(path, "", start=start), probe(path), plan)
        clip = read_window(window, 48000)
        assert clip.audio is not None
        assert (clip.num_frames, clip.frame_rate) == (window.bucket.frames, plan.frame_rate)
        assert clip.audio.shape == (1, int(48000 * clip.seconds))
        (beep,) = beeps(clip.audio, 48000)
        assert abs(beep / 48000 - float(at / exact - window.start)) < WITHIN
        seen = flashes(clip.frames)[0] / plan.frame_rate
        # At its own rate a frame keeps its timestamp; at another it moves to the nearest place of the grid.
        assert abs(beep / 48000 - float(seen)) < (WITHIN if plan.frame_rate == exact else 1 / 48 + WITHIN)


@pytest.mark.parametrize("rate", [rate for rate, _ in RATES])
@pytest.mark.parametrize("turned", [False, True])
def test_sound_that_starts_late_and_a_turned_picture_stay_together(
    tmp_path: Path, rate: int | str, turned: bool
) -> None:
    exact, late = Fraction(rate), Fraction(3, 10)
    at = int(exact)
    wave = np.zeros((1, round(48000 * (Fraction(2) - late))), np.float32)
    beep_at = round(48000 * (at / exact - late))
    tone = flash_and_beep(1, 24, at=(0,)).audio
    assert tone is not None
    wave[:, beep_at : beep_at + 960] = tone[:, :960]
    frames = np.zeros((int(exact * 2), 16, 32, 3), np.uint8)
    frames[at:, :, :16] = 255  # the left half; in a clip turned to the right, the upper one
    times = [i / exact for i in range(len(frames))]
    path = write_frames_at(tmp_path / "a.mp4", frames, times, wave=wave, wave_start=late)
    if turned:
        set_display_matrix(path, 0, 1, -1, 0)
    bucket = Bucket(32, 16, 13) if turned else Bucket(16, 32, 13)
    (window,) = windows_of(Item(path, "", start=Fraction(4, 5)), probe(path), WindowPlan((bucket,), exact))
    clip = read_window(window, 48000)
    assert clip.audio is not None
    (beep,) = beeps(clip.audio, 48000)
    half = clip.frames[:, :16] if turned else clip.frames[:, :, :16]
    assert abs(beep / 48000 - float(at / exact - window.start)) < WITHIN
    assert abs(beep / 48000 - float(flashes(half)[0] / exact)) < WITHIN


def test_variable_rate_and_late_sound_stay_together(tmp_path: Path) -> None:
    times = [Fraction(i * i, 400) for i in range(32)]  # from 400 to 16 frames a second
    frames = np.zeros((32, 16, 16, 3), np.uint8)
    frames[20:] = 255
    wave = flash_and_beep(at=(12,)).audio  # 0.5 s after its own start
    path = write_frames_at(tmp_path / "v.mp4", frames, times, wave=wave, wave_start=Fraction(1, 2))
    (window,) = windows_of(Item(path, ""), probe(path), WindowPlan((Bucket(16, 16, 49),)))
    clip = read_window(window, 48000)
    assert clip.audio is not None
    assert abs(beeps(clip.audio, 48000)[0] / 48000 - 1) < WITHIN
    assert flashes(clip.frames)[0] == 24


def test_a_turned_clip_goes_to_the_upright_bucket(tmp_path: Path) -> None:
    path = save_clip(Clip(coloured_frames(9), Fraction(24)), tmp_path / "a.mp4")
    set_display_matrix(path, 0, 1, -1, 0)
    facts = probe(path)
    assert (facts.height, facts.width, facts.has_sound) == (48, 32, False)
    (window,) = windows_of(Item(path, ""), facts, WindowPlan((Bucket(32, 48, 9), Bucket(48, 32, 9))))
    assert (window.bucket, window.has_audio) == (Bucket(48, 32, 9), False)
    clip = read_window(window, 48000)
    assert clip.audio is None
    assert clip.frames[0, 4, -4].tolist()[0] > 200  # the red corner, once upper left, is now upper right


def test_sound_of_another_file_replaces_the_clips_own(tmp_path: Path) -> None:
    picture = save_clip(replace(flash_from(36, 24), audio=None, sampling_rate=None), tmp_path / "a.mp4")
    sound = save_clip(flash_from(36, 24), tmp_path / "b.mp4")
    (window,) = windows_of(Item(picture, "", sound, start=Fraction(1)), probe(picture), WindowPlan((SMALL,)))
    assert window.has_audio
    clip = read_window(window, 48000)
    assert clip.audio is not None
    assert flashes(clip.frames)[0] == 12
    assert abs(beeps(clip.audio, 48000)[0] - 24000) < 48


def test_where_windows_lie() -> None:
    item = Item(Path("a.mp4"), "", start=Fraction(1), end=Fraction(9))
    length = 49 / Fraction(24)

    def starts(plan: WindowPlan) -> list[Fraction]:
        return [w.start for w in windows_of(item, TEN_SECONDS, plan)]

    long = Bucket(352, 640, 49)
    assert starts(WindowPlan((long,))) == [1]
    several = starts(WindowPlan((long,), mode="several", count=9))
    assert len(several) == 3
    assert several[0] == 1
    assert several[-1] == int((9 - length) * 30) / Fraction(30)
    assert min(b - a for a, b in pairwise(several)) >= length - Fraction(1, 30)
    drawn = starts(WindowPlan((long,), mode="random", count=4, seed=1))
    assert drawn == starts(WindowPlan((long,), mode="random", count=4, seed=1))
    assert drawn != starts(WindowPlan((long,), mode="random", count=4, seed=2))
    assert all(Fraction(29, 30) <= start <= 9 - length and (start * 30).denominator == 1 for start in drawn)


def test_the_longest_bucket_that_is_filled_then_the_nearest_shape() -> None:
    buckets = (
        Bucket(64, 64, 25),
        Bucket(64, 64, 241),
        Bucket(352, 640, 121),
        Bucket(640, 352, 121),
        Bucket(64, 64, 121),
    )

    def chosen(**facts: object) -> Bucket:
        return windows_of(Item(Path("a"), ""), replace(TEN_SECONDS, **facts), WindowPlan(buckets))[0].bucket  # type: ignore[arg-type]

    assert chosen() == Bucket(352, 640, 121)
    assert chosen(height=640, width=360) == Bucket(640, 352, 121)
    assert chosen(height=500, width=500) == Bucket(64, 64, 121)
    assert chosen(seconds=Fraction(2)) == Bucket(64, 64, 25)
    assert chosen(seconds=Fraction(241, 24)) == Bucket(64, 64, 241)
    with pytest.raises(InputError, match="too short for a window of 25 frames"):
        chosen(seconds=Fraction(1))


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({"buckets": ()}, "no bucket"),
        ({"buckets": (Bucket(16, 16, 24),)}, "24 frames is not 1 \\+"),
        ({"mode": "random", "count": 0}, "ask for 1 or more"),
        ({"count": 2}, "a clip has one head"),
    ],
)
def test_plans_that_cannot_be(plan: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        WindowPlan(**{"buckets": (SMALL,), **plan})


def test_buckets_are_written_as_height_width_frames() -> None:
    assert str(parse_bucket("352x640x193")) == "352x640x193"
    for text in ("352x640", "axbxc", "352x640x-1", "9" * 5000 + "x1x1"):
        with pytest.raises(InputError, match="height x width x frames"):
            parse_bucket(text)


def test_modes_have_names() -> None:
    assert parse_mode("several") == "several"
    with pytest.raises(InputError, match="'tail' is unknown; use one of head, random, several"):
        parse_mode("tail")


def test_silent_clips_are_kept_without_sound_or_refused(tmp_path: Path) -> None:
    clip = flash_from(36, 24)
    save_clip(clip, tmp_path / "a.mp4")
    save_clip(replace(clip, audio=None, sampling_rate=None), tmp_path / "b.mp4")
    (tmp_path / "metadata.csv").write_text("file,repeats\na.mp4,3\nb.mp4,1\n")
    found = gather([Source(tmp_path, 0.5), Source(tmp_path / "metadata.csv")], WindowPlan((SMALL,)))
    assert [(entry.window.has_audio, entry.weight) for entry in found] == [
        (True, 1.5),
        (False, 0.5),
        (True, 3),
        (False, 1),
    ]
    (tmp_path / "sets.yaml").write_text("- {path: metadata.csv, weight: 2}\n")
    assert [entry.weight for entry in gather([Source(tmp_path / "sets.yaml", 1.5)], WindowPlan((SMALL,)))] == [9, 3]
    with pytest.raises(InputError, match="line 3 has no sound"):
        gather([Source(tmp_path)], WindowPlan((SMALL,)), refuse_silent=True)
    with pytest.raises(InputError, match="weight 0"):
        Source(tmp_path, 0)


def test_one_yaml_names_several_sets_with_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"x")
    sets = tmp_path / "sets.yaml"
    sets.write_text("- {path: a, weight: 2.5}\n- b\n")
    assert read_sources(sets) == (Source(tmp_path / "a", 2.5), Source(tmp_path / "b"))
    assert [item.file for item in read_items(sets)] == [tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4"]
    assert read_items(tmp_path / "a") == read_items(sets)[:1]
    for text, told in (
        ("{path: a}", "expected a list"),
        ("- 5", "5 is not a path"),
        ("- {path: a, share: 2}", "not a path, or a path with a weight"),
        ("- {path: a, weight: much}", "'much' is not a number"),
        ("- {path: a, weight: 0}", "weight 0"),
        ("- [", "is not YAML"),
    ):
        sets.write_text(text)
        with pytest.raises(InputError, match=told):
            read_sources(sets)


def test_a_window_past_the_end_is_an_error_and_not_padding(tmp_path: Path) -> None:
    path = save_clip(flash_from(36, 24), tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="its header promises 25"):
        read_window(ClipWindow(Item(path, ""), Fraction(5, 2), SMALL, Fraction(24), True), 48000)


def test_weights_hold_in_every_epoch_and_order_needs_no_state() -> None:
    order = WeightedOrder([2, 1, 0.5], seed=3)
    drawn = [order.row(k) for k in range(700)]
    assert drawn != sorted(drawn)
    assert abs(drawn.count(0) - 400) <= 5
    assert abs(drawn.count(1) - 200) <= 5
    assert 70 < drawn.count(2) < 130
    again = WeightedOrder([2, 1, 0.5], seed=3)
    assert [again.row(k) for k in (699, 5, 350)] == [drawn[699], drawn[5], drawn[350]]
    with pytest.raises(InputError, match="weight above 0"):
        WeightedOrder([0.0], seed=0)
