"""A given track goes into the file untouched: the same packets, at the same times, ended with the clip."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media_makers import (
    beeps,
    coloured_frames,
    flash_and_beep,
    flashes,
    packets,
    set_display_matrix,
    write_frames_at,
    write_sound,
)

from phonofilm.errors import InputError
from phonofilm.media import Clip, check_container, read_audio, read_clip, save_clip

RATE = 44100
RNG = np.random.default_rng(0)
TONE = np.stack([0.4 * np.sin(np.arange(RATE) * 0.05), 0.2 * np.cos(np.arange(RATE) * 0.03)]).astype(np.float32)


def silent_film(num_frames: int = 9) -> Clip:
    return Clip(np.zeros((num_frames, 16, 16, 3), np.uint8), Fraction(24))


def codec_of(path: Path, kind: str) -> str:
    with av.open(str(path)) as container:
        return next(s for s in container.streams if s.type == kind).codec_context.codec.canonical_name


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [("a.m4a", "aac", "fltp"), ("a.mp3", "libmp3lame", "fltp"), ("a.flac", "flac", "s16"), ("a.m4a", "alac", "s16p")],
)
@pytest.mark.parametrize("num_frames", [9, 33])
def test_sound_mp4_can_hold_is_copied(
    tmp_path: Path, name: str, codec: str, sample_format: str, num_frames: int
) -> None:
    wave = np.round(TONE * 32767).astype(np.int16) if sample_format.startswith("s16") else TONE
    given = write_sound(tmp_path / name, wave, RATE, codec, sample_format)
    path = save_clip(silent_film(num_frames), tmp_path / "out.mp4", copy_audio_from=given)
    theirs, ours = packets(given, "audio"), packets(path, "audio")
    assert ours == theirs[: len(ours)]
    assert codec_of(path, "audio") == codec_of(given, "audio")
    heard, rate = read_audio(path)
    assert rate == RATE
    assert heard.shape[1] == min(RATE * num_frames // 24, RATE)
    assert np.array_equal(heard, read_audio(given)[0][:, : heard.shape[1]])


@pytest.mark.parametrize("num_frames", [9, 33])
@pytest.mark.parametrize("container", ["mp4", "webm"])
@pytest.mark.parametrize("name", ["a.ogg", "a.webm"])
def test_opus_keeps_its_time_in_either_container(tmp_path: Path, name: str, container: str, num_frames: int) -> None:
    given = write_sound(tmp_path / name, np.repeat(TONE, 2, 1)[:, :48000].copy(), 48000, "libopus", "flt")
    path = save_clip(silent_film(num_frames), tmp_path / f"out.{container}", copy_audio_from=given)
    ours = packets(path, "audio")
    assert ours == packets(given, "audio")[: len(ours)]
    heard, theirs = read_audio(path)[0], read_audio(given)[0]
    assert heard.shape == (2, min(2000 * num_frames, 48000))
    assert np.array_equal(heard, theirs[:, : heard.shape[1]])


@pytest.mark.parametrize(
    ("codec", "sample_format", "scale", "dtype"),
    [("pcm_s16le", "s16", 2**15 - 1, np.int16), ("pcm_s24le", "s32", 2**23 - 1, np.int32)],
)
def test_wav_becomes_alac_without_loss(tmp_path: Path, codec: str, sample_format: str, scale: int, dtype: type) -> None:
    noise = np.round(RNG.uniform(-1, 1, (2, 20000)) * scale).astype(dtype) * (256 if dtype is np.int32 else 1)
    given = write_sound(tmp_path / "a.wav", noise, RATE, codec, sample_format)
    path = save_clip(silent_film(), tmp_path / "out.mp4", copy_audio_from=given)
    assert codec_of(path, "audio") == "alac"
    assert np.array_equal(read_audio(path)[0], read_audio(given)[0][:, : RATE * 9 // 24])


def test_wav_of_floats_keeps_24_bits(tmp_path: Path) -> None:
    given = write_sound(tmp_path / "a.wav", TONE, RATE, "pcm_f32le", "flt")
    heard = read_audio(save_clip(silent_film(), tmp_path / "out.mp4", copy_audio_from=given))[0]
    assert np.abs(heard - TONE[:, : heard.shape[1]]).max() <= 2**-23


def test_the_sound_of_a_clip_keeps_its_place_beside_the_picture(tmp_path: Path) -> None:
    times = [Fraction(i, 24) for i in range(24)]
    wave = flash_and_beep(24, at=(6,)).audio
    given = write_frames_at(tmp_path / "late.mp4", coloured_frames(24), times, wave=wave, wave_start=Fraction(1, 4))
    path = save_clip(silent_film(24), tmp_path / "out.mp4", copy_audio_from=given)
    whole = read_clip(given).audio
    assert whole is not None
    assert abs(beeps(read_audio(path)[0], 48000)[0] - beeps(whole, 48000)[0]) <= 1
    assert beeps(whole, 48000)[0] > 23900
    ours = packets(path, "audio")
    assert ours == packets(given, "audio")[: len(ours)]


def test_the_clips_own_sound_gives_way(tmp_path: Path) -> None:
    given = write_sound(tmp_path / "a.flac", np.zeros((1, RATE), np.int16), RATE, "flac", "s16")
    path = save_clip(flash_and_beep(9, at=(3,)), tmp_path / "out.mp4", copy_audio_from=given)
    assert not read_audio(path)[0].any()


def test_webm_encodes_what_it_cannot_hold_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = write_sound(tmp_path / "a.m4a", TONE, RATE, "aac")
    path = save_clip(silent_film(), tmp_path / "out.webm", copy_audio_from=given)
    assert "webm cannot hold aac sound" in caplog.text
    heard, rate = read_audio(path)
    assert (rate, heard.shape) == (48000, (2, 18000))


def test_a_frame_folder_takes_the_given_sound_without_loss(tmp_path: Path) -> None:
    given = write_sound(tmp_path / "a.flac", np.round(TONE * 32767).astype(np.int16), RATE, "flac", "s16")
    clip = read_clip(save_clip(silent_film(), tmp_path / "frames", copy_audio_from=given))
    assert clip.audio is not None
    assert np.array_equal(clip.audio, read_audio(given)[0][:, : clip.audio.shape[1]])


def moving_square(num_frames: int) -> Clip:
    """Smooth motion, for which the encoder predicts frames from later ones."""
    frames = np.full((num_frames, 64, 64, 3), 40, np.uint8)
    for index in range(num_frames):
        frames[index, 20:36, index : index + 16] = (220, 160, 60)
    return Clip(frames, Fraction(24))


def test_a_picture_is_copied_and_ends_with_the_clip(tmp_path: Path) -> None:
    given = save_clip(moving_square(24), tmp_path / "given.mp4")
    theirs, seen = packets(given, "video"), read_clip(given).frames
    hidden = 0
    for num_frames in (1, 2, 3, 4, 5, 8, 11, 23, 24):
        made = flash_and_beep(num_frames, at=())
        path = save_clip(replace(made, metadata={"seed": 3}), tmp_path / "out.mp4", copy_video_from=given)
        ours = packets(path, "video")
        assert ours == theirs[: len(ours)]
        hidden += len(ours) - num_frames
        shown = read_clip(path)
        assert np.array_equal(shown.frames, seen[:num_frames])
        assert shown.metadata == {"seed": 3}
        report = check_container(path)
        assert report.length_difference == 0
        assert report.picture is not None
        assert (report.picture.start, report.picture.duration) == (0, made.seconds)
    assert hidden > 0  # at some cuts, frames that others need lie behind the end and are not shown


def test_a_copied_picture_stays_turned(tmp_path: Path) -> None:
    times = [Fraction(i, 24) for i in range(6)]
    given = write_frames_at(tmp_path / "phone.mp4", coloured_frames(6), times)
    set_display_matrix(given, 0, 1, -1, 0)
    path = save_clip(flash_and_beep(5, at=()), tmp_path / "out.mp4", copy_video_from=given)
    shown = read_clip(path).frames
    assert shown.shape == (5, 48, 32, 3)
    assert np.array_equal(shown, read_clip(given).frames[:5])


def test_a_copied_picture_that_starts_late_starts_at_zero(tmp_path: Path) -> None:
    times = [Fraction(1, 2) + Fraction(i, 24) for i in range(12)]
    given = write_frames_at(tmp_path / "late.mp4", coloured_frames(12), times)
    report = check_container(save_clip(flash_and_beep(12, at=()), tmp_path / "out.mp4", copy_video_from=given))
    assert report.start_difference == 0
    assert report.picture is not None
    assert report.picture.start == 0


def test_webm_takes_vp9_over(tmp_path: Path) -> None:
    given = save_clip(flash_and_beep(24, at=(7,)), tmp_path / "given.webm")
    for name in ("out.webm", "out.mp4"):
        path = save_clip(flash_and_beep(21, at=()), tmp_path / name, copy_video_from=given)
        ours = packets(path, "video")
        assert ours == packets(given, "video")[: len(ours)]
        assert flashes(read_clip(path).frames) == [7]


def test_a_picture_mp4_cannot_hold_is_encoded_finely(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    times = [Fraction(i, 24) for i in range(12)]
    given = write_frames_at(tmp_path / "a.mov", coloured_frames(12), times, codec="mjpeg")
    path = save_clip(flash_and_beep(9, at=()), tmp_path / "out.mp4", copy_video_from=given)
    assert "mp4 cannot hold mjpeg video" in caplog.text
    shown = read_clip(path).frames
    assert shown.shape == (9, 32, 48, 3)
    assert np.abs(shown.astype(int) - read_clip(given).frames[:9]).mean() < 3


def test_given_files_without_the_track(tmp_path: Path) -> None:
    film = save_clip(silent_film(), tmp_path / "film.mp4")
    song = write_sound(tmp_path / "a.flac", np.zeros((1, RATE), np.int16), RATE, "flac", "s16")
    with pytest.raises(InputError, match=r"film\.mp4 has no sound to keep"):
        save_clip(silent_film(), tmp_path / "out.mp4", copy_audio_from=film)
    with pytest.raises(InputError, match=r"a\.flac has no picture to keep"):
        save_clip(silent_film(), tmp_path / "out.mp4", copy_video_from=song)
    with pytest.raises(InputError, match=r"can be kept in \.mp4 or \.webm"):
        save_clip(silent_film(), tmp_path / "frames", copy_video_from=film)
    assert not (tmp_path / "out.mp4").exists()
