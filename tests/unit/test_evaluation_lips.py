"""Lip sync without its weights: planted shifts, tracks of planted faces, frame rates, and what a row says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from tests.unit.seeded_weights import fill_seeded, seeded_input

from phonofilm.evaluation.face_boxes import FaceBox, find_faces, listed_boxes
from phonofilm.evaluation.face_tracks import FaceTrack, crop_track, face_tracks
from phonofilm.evaluation.features.recompression import (
    CROP_MPEG4,
    DEFAULT_JPEG,
    FINE_JPEG,
    FINE_MPEG4,
    through_codec,
    through_mp3,
)
from phonofilm.evaluation.frame_rates import frames_of_encoder, frames_of_filter
from phonofilm.evaluation.lip_sync import LipSync, distance_curve, lip_sync
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.lse import LipSyncErrors
from phonofilm.evaluation.networks.s3fd import S3FD
from phonofilm.evaluation.networks.syncnet import SyncNet


def test_distances_are_those_of_the_original_at_every_shift() -> None:
    seen, heard = seeded_input(8, 1024), seeded_input(8, 1024, seed=1)
    found = distance_curve(seen, heard)
    for shift in (-15, -3, 0, 5, 15):
        other = [heard[i + shift] if 0 <= i + shift < 8 else torch.zeros(1024) for i in range(8)]
        wanted = np.mean([float((a - b + 1e-6).norm()) for a, b in zip(seen, other, strict=True)])
        assert float(found[shift + 15]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("delay", [-11, -4, 0, 4, 15])
def test_sound_that_comes_later_has_a_negative_offset(delay: int) -> None:
    shown = seeded_input(60, 1024)
    curve = LipSync(distance_curve(shown, torch.roll(shown, delay, 0)).numpy(), 60)
    assert curve.offset == -delay
    assert curve.distance == pytest.approx(float(curve.distances[15 + delay]))
    assert curve.confidence == pytest.approx(float(np.median(curve.distances)) - curve.distance)


def test_windows_of_a_track_are_those_of_the_original(syncnet: SyncNet) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (9, 224, 224, 3), dtype=np.uint8)
    wave = np.random.default_rng(1).normal(0, 3000, 8 * 640 + 100).astype(np.int16)
    found = lip_sync(faces, wave, syncnet)
    assert found.windows == 3  # min(9 frames, 8 frames of sound) - 5
    assert np.isfinite(found.distances).all()
    with pytest.raises(ValueError, match="too short"):
        lip_sync(faces[:5], wave, syncnet)


@pytest.fixture(scope="module")
def syncnet() -> SyncNet:
    return fill_seeded(SyncNet())  # type: ignore[return-value]


def _faces(frames: range, left: float = 200, side: float = 120) -> list[list[FaceBox]]:
    return [[FaceBox(frame, (left, 100, left + side, 100 + side), 0.99)] for frame in frames]


def test_a_face_is_followed_over_gaps_and_its_boxes_filled_in() -> None:
    faces = _faces(range(60))
    for gone in range(20, 30):
        faces[gone] = []
    faces[30] = [FaceBox(30, (220, 100, 340, 220), 0.99)]
    (track,) = face_tracks(faces)
    assert (track.first, track.frames) == (0, 60)
    assert track.boxes[25, 0] == pytest.approx(200 + 20 * 6 / 11)


@pytest.mark.parametrize(
    "faces",
    [
        pytest.param(_faces(range(20)), id="twenty detections"),
        pytest.param(_faces(range(60), side=99), id="99 pixels"),
        pytest.param([*_faces(range(15)), *([[]] * 26), *_faces(range(41, 56))], id="a gap of 26 frames"),
        pytest.param([[]] * 60, id="none"),
    ],
)
def test_short_small_and_interrupted_faces_make_no_track(faces: list[list[FaceBox]]) -> None:
    assert face_tracks(faces) == []


def test_two_faces_make_two_tracks() -> None:
    both = [a + b for a, b in zip(_faces(range(40)), _faces(range(40), left=500), strict=True)]
    assert [track.boxes[0, 0] for track in face_tracks(both)] == [200, 500]


def test_crops_hold_the_face_and_grey_beyond_the_picture() -> None:
    frames = np.zeros((20, 300, 300, 3), np.uint8)
    frames[:, 100:200, 100:200] = 255
    inside = crop_track(frames, FaceTrack(0, np.tile([100.0, 100, 200, 200], (20, 1))))
    # Half a side is 50: rows 100 to 240, columns 80 to 220 of the picture.
    assert inside.shape == (20, 224, 224, 3)
    assert inside[10, 10, 112, 0] == 255
    assert inside[10, 200, 112, 0] == 0
    beyond = crop_track(frames, FaceTrack(0, np.tile([0.0, 0, 100, 100], (20, 1))))
    assert beyond[10, 100, 5, 0] == 110


def test_overlapping_boxes_leave_the_surest() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 0.2, 1], [2, 2, 3, 3]])
    kept = listed_boxes(boxes, np.array([0.8, 0.9, 0.5, 0.04]))
    assert [chance for _, chance in kept] == [0.9, 0.5]


def test_a_detector_that_is_sure_of_nothing_finds_nothing() -> None:
    detector: S3FD = fill_seeded(S3FD())  # type: ignore[assignment]
    for head in detector.conf:
        head.bias.data[-1] = -100  # type: ignore[index]
    assert list(find_faces(np.zeros((2, 128, 160, 3), np.uint8), detector)) == [[], []]


@pytest.mark.parametrize("profile", ["compat", "fixed"])
def test_a_row_names_the_face_and_its_curve(syncnet: SyncNet, profile: str) -> None:
    frames, wave = _noise(22)
    metric = LipSyncErrors(Setup(profile))  # type: ignore[arg-type]
    metric.network = syncnet
    row = metric.row_of(frames, wave[: 7 * 640], _faces(range(22), left=20))
    assert row.state == "ok"
    assert len(row.series["distance"]) == len(row.series["offset_seconds"]) == 31
    assert row.values["lse_d"] == pytest.approx(min(row.series["distance"]))
    assert row.values["offset_ms"] == -40 * row.detail["offset_frames_syncnet"]
    assert row.detail["windows"] == 2


def test_rows_say_why_there_is_no_figure(syncnet: SyncNet) -> None:
    frames, wave = _noise(22)
    metric = LipSyncErrors(Setup("fixed"))
    metric.network = syncnet
    assert metric.row_of(frames, wave, [[]] * 22).reason == "no face was found"
    assert "100 pixels" in metric.row_of(frames, wave, _faces(range(22), side=60)).reason
    assert "sound ends" in metric.row_of(frames, wave[:2000], _faces(range(22))).reason


def _noise(frames: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (1, 240, 320, 3), dtype=np.uint8).repeat(frames, 0)
    return picture, random.normal(0, 3000, frames * 640).astype(np.int16)


@pytest.mark.parametrize("codec", [FINE_MPEG4, FINE_JPEG, CROP_MPEG4, DEFAULT_JPEG])
def test_pictures_come_back_nearly_as_they_were(codec: tuple[str, dict[str, str]]) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    frames = np.stack([np.roll(np.broadcast_to(ramp[:, None, None], (64, 48, 3)), 3 * i, 0) for i in range(5)])
    found = through_codec(np.ascontiguousarray(frames), 25, codec)
    assert found.shape == frames.shape
    assert np.abs(found.astype(int) - frames).mean() < 6


@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 44_100)])
def test_sound_comes_back_from_mp3_at_its_time(channels: int, rate: int) -> None:
    wave = np.zeros((channels, rate), np.float32)
    wave[:, rate // 2 : rate // 2 + 400] = np.sin(np.arange(400) * 0.2)
    found = through_mp3(wave, rate)
    assert found.shape == wave.shape
    lags = [float((np.roll(found, -lag, 1) * wave).sum()) for lag in range(-40, 41)]
    assert abs(int(np.argmax(lags)) - 40) <= 1


def test_frame_rates_change_as_ffmpeg_changes_them() -> None:
    film, tv = Fraction(24), Fraction(25)
    chosen = frames_of_filter(193, film, tv, 197)
    assert len(chosen) == 197
    assert chosen[:14] == [*range(12), 11, 12]
    assert frames_of_filter(193, film, Fraction(1, 2), 3) == [23, 71, 119]
    assert frames_of_filter(10, tv, tv, 99) == list(range(10))
    written = frames_of_encoder(48, film, tv)
    assert len(written) == 50
    assert written == sorted(written)
    assert set(written) == set(range(48))
    assert frames_of_encoder(10, tv, tv) == list(range(10))
    assert len(frames_of_encoder(60, Fraction(50), tv)) == 30
