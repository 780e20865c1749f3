"""Reading by timestamps: rates, windows, rotation, pixel shape, colours, late sound, damaged files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.media_makers import (
    beeps,
    coloured_frames,
    flash_and_beep,
    flashes,
    set_display_matrix,
    write_frames_at,
    write_sound,
)

from phonofilm.errors import InputError, MediaError
from phonofilm.media import Clip, read_audio, read_clip, save_clip

TONE = (0.5 * np.sin(np.arange(48000) * 0.1)).astype(np.float32)[None]


def greys(frames: np.ndarray) -> list[int]:
    """The number i that `coloured_frames` wrote into each frame."""
    return [round(value / 10) for value in frames[:, 4, -4].mean(axis=-1)]


def test_constant_rate_is_read_frame_by_frame(tmp_path: Path) -> None:
    frames = coloured_frames(12)
    clip = read_clip(write_frames_at(tmp_path / "a.mp4", frames, [Fraction(i, 30) for i in range(12)]))
    assert clip.frame_rate == 30
    assert greys(clip.frames) == list(range(12))
    assert clip.audio is None


def test_variable_rate_is_resampled_by_timestamps(tmp_path: Path) -> None:
    times = [Fraction(i, 1000) for i in (0, 40, 80, 300, 340, 600)]
    path = write_frames_at(tmp_path / "v.mp4", coloured_frames(6), times)
    shown = greys(read_clip(path, frame_rate=25).frames)
    assert shown[:16] == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 5]


@pytest.mark.parametrize(
    ("rate", "shown"), [(12, [0, 2, 4, 6]), (48, [0, 0, 1, 1, 2, 2, 3, 3]), ("23.976", [0, 1, 2, 3])]
)
def test_asking_for_another_rate(tmp_path: Path, rate: int | str, shown: list[int]) -> None:
    path = write_frames_at(tmp_path / "a.mp4", coloured_frames(12), [Fraction(i, 24) for i in range(12)])
    clip = read_clip(path, frame_rate=rate)
    assert [abs(a - b) <= 1 for a, b in zip(greys(clip.frames), shown, strict=False)] == [True] * len(shown)
    assert abs(clip.seconds - Fraction(1, 2)) <= Fraction(1, 24)


def test_a_gif_of_a_whole_clip_is_read_at_the_clips_rate(tmp_path: Path) -> None:
    made = Clip(coloured_frames(25), Fraction(24))
    read = read_clip(save_clip(made, tmp_path / "a.gif"))
    assert (read.frame_rate, read.num_frames, greys(read.frames)) == (24, 25, list(range(25)))


def test_a_window_is_the_same_stretch_of_the_whole(tmp_path: Path) -> None:
    # Long enough that the reader seeks, with key frames far apart.
    made = flash_and_beep(num_frames=121, at=(30, 80, 100))
    path = save_clip(made, tmp_path / "a.mp4")
    whole = read_clip(path)
    for start, end in ((0, 1), (Fraction(1, 3), 2.5), (3, 4), (3.11, None)):
        part = read_clip(path, start=start, end=end)
        first = round(Fraction(start) * 24)
        assert np.array_equal(part.frames, whole.frames[first : first + part.num_frames])
        assert part.num_frames == round(Fraction(end or whole.seconds) * 24) - first
        assert part.audio is not None
        assert whole.audio is not None
        sample = first * 2000  # of the first frame, so that picture and sound stay together
        assert np.allclose(part.audio, whole.audio[:, sample : sample + part.audio.shape[1]], atol=1e-5)


def test_max_frames_and_size(tmp_path: Path) -> None:
    path = write_frames_at(tmp_path / "a.mp4", coloured_frames(12, 64, 128), [Fraction(i, 24) for i in range(12)])
    clip = read_clip(path, max_frames=5, size=(32, 32))
    assert clip.frames.shape == (5, 32, 32, 3)
    boxed = read_clip(path, max_frames=1, size=(32, 32), fit="letterbox")
    assert not boxed.frames[0, :8].any()


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), lambda f: np.rot90(f, -1, (1, 2))),  # a phone held upright: turn clockwise
        ((0, -1, 1, 0), lambda f: np.rot90(f, 1, (1, 2))),
        ((-1, 0, 0, -1), lambda f: np.rot90(f, 2, (1, 2))),
        ((-1, 0, 0, 1), lambda f: f[:, :, ::-1]),
        ((1, 0, 0, -1), lambda f: f[:, ::-1]),
    ],
)
def test_the_display_matrix_is_honoured(tmp_path: Path, matrix: tuple[int, int, int, int], turned: object) -> None:
    path = write_frames_at(tmp_path / "a.mp4", coloured_frames(2), [Fraction(0), Fraction(1, 24)])
    stored = read_clip(path).frames
    set_display_matrix(path, *matrix)
    assert np.array_equal(read_clip(path).frames, turned(stored))  # type: ignore[operator]


def test_pixels_become_square(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 24)]
    path = write_frames_at(tmp_path / "a.mp4", coloured_frames(2), times, pixel_aspect=Fraction(4, 3))
    assert read_clip(path).frames.shape == (2, 32, 64, 3)


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_colours_by_matrix_and_range(tmp_path: Path, codec: str) -> None:
    path = write_frames_at(tmp_path / "a.mov", coloured_frames(2), [Fraction(0), Fraction(1, 24)], codec=codec)
    frame = read_clip(path).frames[0].astype(int)
    assert abs(frame[4, 4] - (255, 0, 0)).max() <= 6
    assert abs(frame[-4, -4] - (0, 0, 255)).max() <= 6
    assert abs(frame[4, -4]).max() <= 6


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    times = [Fraction(i, 24) for i in range(24)]
    path = write_frames_at(
        tmp_path / "a.mkv", coloured_frames(24), times, wave=TONE[:, :24000], wave_start=Fraction(1, 4)
    )
    clip = read_clip(path)
    assert clip.audio is not None
    assert clip.audio.shape == (1, 48000)
    assert not clip.audio[:, :11900].any()
    assert np.abs(clip.audio[:, 13100:35000] - TONE[:, 1100:23000]).max() < 0.05
    whole, rate = read_audio(path)
    assert (rate, bool(whole[:, :11900].any())) == (48000, False)


def test_a_picture_that_starts_late_is_time_zero(tmp_path: Path) -> None:
    times = [Fraction(1, 2) + Fraction(i, 24) for i in range(12)]
    clip = read_clip(write_frames_at(tmp_path / "a.mp4", coloured_frames(12), times, wave=TONE))
    assert clip.num_frames == 12
    assert clip.audio is not None
    assert np.abs(clip.audio[:, :20000] - TONE[:, 24000:44000]).max() < 0.05


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "dtype", "error"),
    [
        ("a.wav", "pcm_s16le", "s16", np.int16, 0),
        ("a.wav", "pcm_f32le", "flt", np.float32, 0),
        ("a.flac", "flac", "s16", np.int16, 0),
        ("a.mp3", "libmp3lame", "fltp", np.float32, 0.1),
        ("a.m4a", "aac", "fltp", np.float32, 0.3),
        ("a.ogg", "libopus", "flt", np.float32, 0.1),
    ],
)
def test_sound_files_without_padding(
    tmp_path: Path, name: str, codec: str, sample_format: str, dtype: type, error: float
) -> None:
    wave = np.concatenate([TONE, -TONE])
    coded = wave if dtype is np.float32 else np.round(wave * 32767).astype(dtype)
    path = write_sound(tmp_path / name, coded.astype(dtype), 48000, codec, sample_format)
    read, rate = read_audio(path)
    assert rate == 48000
    assert read.shape == (2, 48000)
    expected = wave if dtype is np.float32 else coded / np.float32(32768)
    assert np.abs(read[:, 500:-500] - expected[:, 500:-500]).max() <= error


def test_resampling_keeps_the_time_of_events(tmp_path: Path) -> None:
    made = flash_and_beep(at=(6, 18), sampling_rate=44100, channels=2)
    path = save_clip(made, tmp_path / "frames")
    for rate in (16000, 44100, 48000):
        clip = read_clip(path, sampling_rate=rate, mono=True)
        assert clip.audio is not None
        assert clip.audio.shape == (1, rate * 25 // 24)
        found = beeps(clip.audio, rate)
        assert [abs(s / rate - f / 24) < 0.0005 for s, f in zip(found, (6, 18), strict=True)] == [True, True]


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", np.concatenate([TONE, 0 * TONE]), 48000, "pcm_f32le", "flt")
    mono, _ = read_audio(tmp_path / "a.wav", mono=True)
    assert np.abs(mono - TONE / 2).max() < 1e-6


def test_a_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(5, at=(2,)), tmp_path / "12:30 take.mp4")
    assert read_clip(path).num_frames == 5


def test_windows_outside_the_clip_are_refused(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(25), tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"1\.042 s long; there is nothing at 5"):
        read_clip(path, start=5)
    with pytest.raises(InputError, match="end must be later"):
        read_clip(path, start=1, end=0.5)
    with pytest.raises(InputError, match="start must be 0 or more"):
        read_clip(path, start=-1)
    with pytest.raises(InputError, match="max_frames 0"):
        read_clip(path, max_frames=0)
    with pytest.raises(InputError, match="pixels"):
        read_clip(path, size=(0, 16))
    with pytest.raises(InputError, match="sampling rate -1"):
        read_clip(path, sampling_rate=-1)


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif"])
def test_a_clip_too_large_for_memory_is_refused(tmp_path: Path, kind: str) -> None:
    path = save_clip(flash_and_beep(25), tmp_path / f"a.{kind}")
    with pytest.raises(InputError, match=r"GiB of memory.*max_frames"):
        read_clip(path, size=(500_000, 500_000))


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_truncated_and_foreign_files_name_themselves(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    noise = Clip(rng.integers(0, 256, (49, 32, 32, 3), dtype=np.uint8), 24, TONE, 48000)
    data = save_clip(noise, tmp_path / f"whole{suffix}").read_bytes()
    for kept in (0.01, 0.3, 0.6):
        (tmp_path / f"cut{suffix}").write_bytes(data[: int(len(data) * kept)])
        if suffix == ".webm" and kept > 0.1:
            continue  # Matroska is made for streaming: what arrived is a valid, shorter file
        with pytest.raises(MediaError, match=f"cut{suffix}"):
            read_clip(tmp_path / f"cut{suffix}")
    (tmp_path / "note.mp4").write_text("not a clip " * 99)
    with pytest.raises(MediaError, match=r"note\.mp4 cannot be read"):
        read_clip(tmp_path / "note.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match=r"empty\.mp4 is empty"):
        read_clip(tmp_path / "empty.mp4")
    with pytest.raises(InputError, match=r"no file at .*gone\.mp4"):
        read_clip(tmp_path / "gone.mp4")


def test_files_without_the_wanted_track(tmp_path: Path) -> None:
    song = write_sound(tmp_path / "song.mp3", TONE, 48000, "libmp3lame")
    with pytest.raises(MediaError, match=r"song\.mp3 has no picture, only sound; .* as audio=") as refused:
        read_clip(song)
    # An error that is its own cause is a chain without an end to whoever follows it.
    assert refused.value.__cause__ is None
    film = write_frames_at(tmp_path / "film.mp4", coloured_frames(2), [Fraction(0), Fraction(1, 24)])
    with pytest.raises(MediaError, match=r"film\.mp4 has no sound"):
        read_audio(film)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "bmp"])
def test_a_picture_in_place_of_a_clip_is_called_one(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.mp4", format=kind)
    for read in (read_clip, read_audio):
        with pytest.raises(MediaError, match=r"a\.mp4 is a picture, neither a clip nor a sound; .* as image="):
            read(tmp_path / "a.mp4")


def test_folder_of_frames_from_elsewhere(tmp_path: Path) -> None:
    save_clip(flash_and_beep(5, at=(2,)), tmp_path / "ours")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for frame in sorted((tmp_path / "ours").glob("*.png")):
        (theirs / f"shot_{frame.name}").write_bytes(frame.read_bytes())
    with pytest.raises(InputError, match="give frame_rate"):
        read_clip(theirs)
    clip = read_clip(theirs, frame_rate=12)
    assert (clip.frame_rate, flashes(clip.frames), clip.audio) == (12, [2], None)
    with pytest.raises(MediaError, match="holds no frames"):
        read_clip(tmp_path)
    with pytest.raises(InputError, match="nothing at 3"):
        read_clip(theirs, frame_rate=12, start=3)


def test_our_folder_at_another_rate_and_in_a_window(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(25, at=(12, 20)), tmp_path / "ours")
    assert flashes(read_clip(path, frame_rate=48).frames) == [24, 25, 40, 41]
    assert flashes(read_clip(path, frame_rate=12).frames) == [6, 10]
    part = read_clip(path, start=0.25, end=0.75)
    assert (part.num_frames, flashes(part.frames)) == (12, [6])
    assert part.audio is not None
    assert beeps(part.audio, 48000) == beeps(flash_and_beep(12, at=(6,)).audio, 48000)  # type: ignore[arg-type]


def test_a_damaged_folder(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(5, at=(2,)), tmp_path / "ours")
    (path / "metadata.json").write_text("{")
    with pytest.raises(MediaError, match=r"metadata\.json is damaged"):
        read_clip(path)
