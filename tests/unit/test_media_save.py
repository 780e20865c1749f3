"""save_clip writes all or nothing, never clips, and says why when it cannot write."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from tests.media_makers import flash_and_beep, flashes

from phonofilm.errors import InputError, MediaError
from phonofilm.media import Clip, read_clip, save_clip

KINDS = ["a.mp4", "a.webm", "a.gif", "frames"]


def with_sound(wave: np.ndarray, num_frames: int = 5) -> Clip:
    return Clip(np.zeros((num_frames, 16, 16, 3), np.uint8), Fraction(24), wave.astype(np.float32)[None], 48000)


@pytest.mark.parametrize("name", KINDS)
def test_parents_are_made_and_only_the_clip_is_left(tmp_path: Path, name: str) -> None:
    made = flash_and_beep(5, at=(2,))
    path = save_clip(made, tmp_path / "new" / "deep" / name)
    assert [entry.name for entry in path.parent.iterdir()] == [name]
    assert flashes(read_clip(path, frame_rate=24).frames) == [2]


def test_a_file_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = save_clip(flash_and_beep(5, at=(2,)), tmp_path / "a.mp4")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_frame_folder_is_lossless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = Clip(
        rng.integers(0, 256, (5, 15, 17, 3), dtype=np.uint8),
        Fraction(24000, 1001),
        rng.uniform(-1, 1, (2, 9999)).astype(np.float32),
        44100,
        {"prompt": "snow"},
    )
    path = save_clip(clip, f"{tmp_path}/take.1/")
    assert sorted(entry.name for entry in path.iterdir())[:2] == ["00000.png", "00001.png"]
    read = read_clip(path)
    assert np.array_equal(read.frames, clip.frames)
    assert np.array_equal(read.audio, clip.audio[:, :9196])  # type: ignore[index, arg-type]
    assert (read.frame_rate, read.sampling_rate, read.metadata) == (clip.frame_rate, 44100, clip.metadata)


def test_a_peak_over_one_turns_the_whole_track_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wave = np.sin(np.arange(10000) * 0.05) * 0.3
    wave[5000] = -2.5
    with caplog.at_level(logging.WARNING):
        path = save_clip(with_sound(wave), tmp_path / "frames")
    read = read_clip(path).audio
    assert read is not None
    assert np.allclose(read[0], wave * 0.99 / 2.5, atol=1e-6)
    assert "peaks at 2.50; turned down by 8.0 dB" in caplog.text


def test_other_levels_are_left_alone(tmp_path: Path) -> None:
    wave = np.sin(np.arange(10000) * 0.05)
    assert np.array_equal(read_clip(save_clip(with_sound(wave), tmp_path / "f")).audio[0], wave.astype(np.float32))  # type: ignore[index]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "frames"])
def test_sound_that_is_not_numbers_writes_nothing(tmp_path: Path, bad: float, name: str) -> None:
    with pytest.raises(MediaError, match="2 samples that are not numbers"):
        save_clip(with_sound(np.array([0, bad, 0.5, bad])), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_short_sound_is_padded_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_clip(with_sound(np.full(2000, 0.5)), tmp_path / "a.mp4")
    assert "shorter than the picture" in caplog.text
    assert read_clip(path).audio.shape == (1, 10000)  # type: ignore[union-attr]


def test_odd_sides_are_refused(tmp_path: Path) -> None:
    clip = Clip(np.zeros((5, 16, 17, 3), np.uint8), Fraction(24))
    for name in ("a.mp4", "a.webm"):
        with pytest.raises(InputError, match="even sides, and the frames are 17x16; crop them to 16x16"):
            save_clip(clip, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_channels_a_codec_cannot_hold(tmp_path: Path) -> None:
    clip = Clip(np.zeros((5, 16, 16, 3), np.uint8), Fraction(24), np.zeros((4, 10000), np.float32), 48000)
    with pytest.raises(InputError, match="1, 2, 3, 6, 8 channels, and the clip has 4"):
        save_clip(clip, tmp_path / "a.webm")
    assert read_clip(save_clip(clip, tmp_path / "a.mp4")).audio.shape[0] == 4  # type: ignore[union-attr]


def test_quality_changes_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = Clip(rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8), Fraction(24))
    for kind in ("mp4", "webm"):
        fine, coarse = (save_clip(clip, tmp_path / f"{crf}.{kind}", crf=crf) for crf in (10, 45))
        assert fine.stat().st_size > 2 * coarse.stat().st_size
    with pytest.raises(InputError, match="crf 60 is outside"):
        save_clip(clip, tmp_path / "x.mp4", crf=60)


def test_names_that_say_nothing_we_know(tmp_path: Path) -> None:
    clip = flash_and_beep(5, at=(2,))
    with pytest.raises(InputError, match=r"unknown kind \.avi; use \.mp4"):
        save_clip(clip, tmp_path / "a.avi")
    (tmp_path / "note").touch()
    with pytest.raises(InputError, match="is a file; choose another name"):
        save_clip(clip, tmp_path / "note")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        save_clip(clip, "/dev/null")


def test_overwriting(tmp_path: Path) -> None:
    early, late = (flash_and_beep(5, at=(at,)) for at in (1, 3))
    for name in KINDS:
        path = save_clip(early, tmp_path / name)
        with pytest.raises(InputError, match="exists already"):
            save_clip(late, path, overwrite=False)
        assert flashes(read_clip(path, frame_rate=24).frames) == [1]
        save_clip(late, path)
        assert flashes(read_clip(path, frame_rate=24).frames) == [3]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(KINDS)


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files \(thesis\.doc\)"):
        save_clip(flash_and_beep(5, at=(2,)), tmp_path)
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


def test_gif_times_do_not_drift(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = np.zeros((49, 16, 16, 3), np.uint8)
    frames[:, :, :, 0] = 5 * np.arange(49)[:, None, None]
    clip = replace(flash_and_beep(49), frames=frames)
    with Image.open(save_clip(clip, tmp_path / "a.gif")) as gif:
        shown = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
    assert (len(shown), sum(shown), set(shown)) == (49, 2040, {40, 50})
    assert "has no sound" in caplog.text
    fast = Clip(frames, Fraction(60))
    with Image.open(save_clip(fast, tmp_path / "b.gif")) as gif:
        shown = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
    assert (sum(shown), min(shown)) == (820, 20)
    assert "at most 50 frames a second" in caplog.text


def test_h264_is_tagged_bt709_and_starts_with_its_index(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(25), tmp_path / "a.mp4")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
        assert container.streams.audio[0].codec_context.name == "aac"


def test_colours_survive(tmp_path: Path) -> None:
    colours = np.array(
        [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128), (200, 150, 40)], np.uint8
    )
    frames = np.repeat(np.repeat(colours[None, None], 32, 1), 32, 2).reshape(1, 32, -1, 3)
    for name in ("a.mp4", "a.webm"):
        read = read_clip(save_clip(Clip(frames, Fraction(24)), tmp_path / name, crf=1)).frames
        assert abs(read[0, 16, 16::32].astype(int) - colours).max() <= 3


def run_in_small_space(code: str, limit: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose files may not grow past `limit` bytes: what a full disk looks like from inside."""
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_leaves_nothing(tmp_path: Path, name: str) -> None:
    code = f"""
        import numpy as np
        from phonofilm.errors import MediaError
        from phonofilm.media import Clip, save_clip
        rng = np.random.default_rng(0)
        noise = Clip(rng.integers(0, 256, (25, 64, 64, 3), dtype=np.uint8), 24, np.zeros((1, 50000), np.float32), 48000)
        try:
            save_clip(noise, "{name}")
        except MediaError as error:
            print(error)
    """
    done = run_in_small_space(code, 5000, tmp_path)
    assert f"cannot write {name}: " in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", KINDS)
def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_clip(flash_and_beep(5, at=(1,)), tmp_path / name)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)  # the last thing before the file gets its name
    with pytest.raises(KeyboardInterrupt):
        save_clip(flash_and_beep(5, at=(3,)), path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert flashes(read_clip(path, frame_rate=24).frames) == [1]


def test_a_folder_that_cannot_be_swapped_in_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_clip(flash_and_beep(5, at=(1,)), tmp_path / "frames")
    rename = os.rename

    def refuse_new(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part":
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(MediaError, match=r"cannot write .*frames: Input/output error; nothing was kept"):
        save_clip(flash_and_beep(5, at=(3,)), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["frames"]
    assert flashes(read_clip(path).frames) == [1]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"cannot write .*file/a\.mp4: its folder cannot be made"):
        save_clip(flash_and_beep(5, at=(2,)), tmp_path / "file" / "a.mp4")
    with pytest.raises(MediaError, match=r"cannot write /proc/a\.mp4: "):
        save_clip(flash_and_beep(5, at=(2,)), "/proc/a.mp4")


def test_a_folder_name_is_no_file_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    path = save_clip(flash_and_beep(5, at=(2,)), tmp_path / "a.mp4")
    assert (path / "00000.png").is_file()
