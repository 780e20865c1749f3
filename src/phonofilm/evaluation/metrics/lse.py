"""LSE-D and LSE-C: how near a face's lips are to the sound in SyncNet's space, and how distinct the nearest offset is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.face_boxes import FaceBox, find_faces
from phonofilm.evaluation.face_tracks import LEAST_DETECTIONS, FaceTrack, crop_track, face_tracks
from phonofilm.evaluation.features.recompression import (
    CROP_MPEG4,
    DEFAULT_JPEG,
    FINE_JPEG,
    FINE_MPEG4,
    through_codec,
    through_mp3,
)
from phonofilm.evaluation.frame_rates import frames_of_encoder
from phonofilm.evaluation.lip_sync import (
    FRAME_RATE,
    MOST_OFFSET,
    SAMPLES_PER_FRAME,
    SOUND_RATE,
    LipSync,
    lip_sync,
    sync_windows,
)
from phonofilm.evaluation.metric import Figure, Metric, Pooling
from phonofilm.evaluation.published_files import S3FD as S3FD_FILE
from phonofilm.evaluation.published_files import SYNCNET as SYNCNET_FILE
from phonofilm.evaluation.requirements import Package, Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.weights import find_weights
from phonofilm.media.waveform import resample

if TYPE_CHECKING:
    from phonofilm.evaluation.networks.s3fd import S3FD
    from phonofilm.evaluation.networks.syncnet import SyncNet

CUT_THRESHOLD = 27.0
DETECTOR_WIDTH = 256
SMALLEST_PICTURE = 128  # pixels: a quarter of it passes five halvings


@dataclass(frozen=True)
class _Scored:
    track: FaceTrack
    sync: LipSync


class LipSyncErrors(Metric):
    """Of the face whose LSE-C minus LSE-D is largest; clips without a large face for 20 frames are not applicable.

    compat: the clip goes through the lossy files of the published pipeline first (MPEG-4, JPEG, MP3). fixed: it does not,
    and the sound is cut where the picture is. Trained on English speech seen from the front.
    """

    name = "lse"
    title = "Lip sync (SyncNet)"
    version = 2
    figures = (
        Figure("lse_d", "LSE-D", better="lower", paper="LSE-D"),
        Figure("lse_c", "LSE-C", better="higher", chance=0.0, paper="LSE-C"),
        Figure("offset_ms", "Lip offset", "ms"),
    )
    source = "Chung and Zisserman, 2016; Prajwal et al., 2020, as MOVA's evaluation code computes it"
    pooling: Pooling = "clips"  # type: ignore[misc]

    @property
    def needs(self) -> Requirements:
        packages = (Package("cv2", "evaluate"), Package("scenedetect", "data"))
        return Requirements(packages=packages, weights=(SYNCNET_FILE, S3FD_FILE), picture=True, sound=True)

    @cached_property
    def network(self) -> SyncNet:
        from phonofilm.evaluation.networks.published import load_network, read_published
        from phonofilm.evaluation.networks.syncnet import SyncNet

        file = find_weights(SYNCNET_FILE, self.setup.weights)
        return load_network(SyncNet, read_published(file), file, self.setup.device)

    @cached_property
    def detector(self) -> S3FD:
        from phonofilm.evaluation.networks.published import load_network, read_published
        from phonofilm.evaluation.networks.s3fd import S3FD

        file = find_weights(S3FD_FILE, self.setup.weights)
        return load_network(S3FD, read_published(file), file, self.setup.device)

    def measure(self, clip: ClipFacts) -> Row:
        height, width = clip.frames.shape[1:3]
        if min(height, width) < SMALLEST_PICTURE:
            return not_applicable(
                f"the picture is {width} x {height}; the face detector needs {SMALLEST_PICTURE} pixels"
            )
        frames, wave = self._prepared(clip)
        return self.row_of(frames, wave, list(find_faces(frames, self.detector, self.setup.device)))

    def row_of(self, frames: NDArray[np.uint8], wave: NDArray[np.int16], faces: Sequence[Sequence[FaceBox]]) -> Row:
        """The row of frames at 25 per second with sound at 16 kHz, whose faces are known, one list for each frame."""
        shots = [range(start, end) for start, end in _shots(frames) if end - start >= LEAST_DETECTIONS]
        tracks = [track for shot in shots for track in face_tracks([faces[index] for index in shot])]
        detail: dict[str, object] = {
            "frames": len(frames),
            "frames_with_face": sum(map(bool, faces)),
            "tracks": len(tracks),
        }
        if not any(faces):
            return not_applicable("no face was found", detail)
        if not tracks:
            return not_applicable(
                f"no face wider than 100 pixels was there for more than {LEAST_DETECTIONS} frames", detail
            )
        scored = [one for track in tracks if (one := self._score(frames, wave, track)) is not None]
        if not scored:
            return not_applicable("the sound ends before a face has been there for 6 frames", detail)
        best = max(scored, key=lambda one: one.sync.confidence - one.sync.distance)
        return _row(best, detail)

    def _prepared(self, clip: ClipFacts) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        """(frames at 25 per second, the sound at 16 kHz), sample 0 at frame 0."""
        shown = frames_of_encoder(len(clip.frames), clip.frame_rate, Fraction(FRAME_RATE))
        frames = clip.frames[shown]
        if self.setup.profile == "fixed":
            return frames, _sixteen_bits(clip.aligned_wave(SOUND_RATE))
        frames = through_codec(through_codec(frames, FRAME_RATE, FINE_MPEG4), FRAME_RATE, FINE_JPEG)
        wave, rate = clip.sound
        delay = round(clip.sound_delay * rate)
        timed = np.pad(wave, ((0, 0), (max(0, delay), 0)))[:, max(0, -delay) :]
        heard = through_mp3(timed if len(timed) <= 2 else timed.mean(axis=0, keepdims=True), rate)
        return frames, _sixteen_bits(resample(heard.mean(axis=0, keepdims=True), rate, SOUND_RATE)[0])

    def _score(self, frames: NDArray[np.uint8], wave: NDArray[np.int16], track: FaceTrack) -> _Scored | None:
        heard = wave[track.first * SAMPLES_PER_FRAME : (track.first + track.frames) * SAMPLES_PER_FRAME]
        if not sync_windows(track.frames, len(heard)):
            return None
        crops = crop_track(frames, track)
        if self.setup.profile == "compat":
            crops = through_codec(through_codec(crops, FRAME_RATE, CROP_MPEG4), FRAME_RATE, DEFAULT_JPEG)
        return _Scored(track, lip_sync(crops, heard, self.network, self.setup.device))


def _row(best: _Scored, detail: dict[str, object]) -> Row:
    sync, track = best.sync, best.track
    # SyncNet's sign is turned: here a positive offset means that the sound is late, as in every metric of ours.
    values = {
        "lse_d": sync.distance,
        "lse_c": sync.confidence,
        "offset_ms": -1000.0 * sync.offset / FRAME_RATE,
    }
    shown = {
        "offset_frames_syncnet": sync.offset,
        "windows": sync.windows,
        "track_first": track.first,
        "track_frames": track.frames,
        "face_box": [round(float(side), 1) for side in np.median(track.boxes, axis=0)],
    }
    offsets = [float(frames) / FRAME_RATE for frames in range(-MOST_OFFSET, MOST_OFFSET + 1)]
    return measured(values, {**detail, **shown}, {"offset_seconds": offsets, "distance": sync.distances.tolist()})


def _shots(frames: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """First frames and ends of the shots, by PySceneDetect's content detector with its default threshold."""
    from scenedetect import ContentDetector, FrameTimecode

    detector = ContentDetector(threshold=CUT_THRESHOLD)
    step = max(1, frames.shape[2] // DETECTOR_WIDTH)
    found = []
    for index, frame in enumerate(frames):
        small = np.ascontiguousarray(frame[::step, ::step, ::-1])
        found += detector.process_frame(FrameTimecode(index, float(FRAME_RATE)), small)
    if len(frames):
        found += detector.post_process(FrameTimecode(len(frames) - 1, float(FRAME_RATE)))
    cuts = sorted({0, len(frames), *(cut.frame_num for cut in found)})
    return list(pairwise(cuts))


def _sixteen_bits(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    whole: NDArray[np.int16] = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    return whole
