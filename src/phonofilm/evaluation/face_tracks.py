"""From faces in frames to tracks of one face each, and to the crops of it that SyncNet sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.face_boxes import FaceBox

LEAST_OVERLAP = 0.5
LONGEST_GAP = 25  # frames without the face
LEAST_DETECTIONS = 20
LEAST_SIDE = 100.0  # pixels
CROP_MARGIN = 0.4
CROP_PIXELS = 224
BORDER = 110
SMOOTHING = 13  # frames


@dataclass(frozen=True)
class FaceTrack:
    """One face over consecutive frames. boxes: [frames, 4], left, top, right, bottom in pixels."""

    first: int
    boxes: NDArray[np.float64]

    @property
    def frames(self) -> int:
        return len(self.boxes)


def face_tracks(faces: Sequence[Sequence[FaceBox]]) -> list[FaceTrack]:
    """The tracks of one shot: greedy by overlap with the last box, gaps filled, small and short ones dropped.

    Kept are tracks with more than 20 detections whose mean width or height is above 100 pixels.
    """
    left = [list(frame) for frame in faces]
    tracks: list[FaceTrack] = []
    while chain := _take_chain(left):
        if len(chain) > LEAST_DETECTIONS:
            track = _filled(chain)
            sides = (track.boxes[:, 2:] - track.boxes[:, :2]).mean(axis=0)
            if sides.max() > LEAST_SIDE:
                tracks.append(track)
    return tracks


def crop_track(frames: NDArray[np.uint8], track: FaceTrack) -> NDArray[np.uint8]:
    """[n, h, w, 3] -> [track's frames, 224, 224, 3]: the face from its forehead to below its chin, grey where there is none."""
    import cv2

    corners, opposite = track.boxes[:, :2], track.boxes[:, 2:]
    half = _median_filtered((opposite - corners).max(axis=1) / 2)
    centre_x, centre_y = (_median_filtered(((corners + opposite) / 2)[:, axis]) for axis in (0, 1))
    crops = np.empty((track.frames, CROP_PIXELS, CROP_PIXELS, 3), np.uint8)
    for index in range(track.frames):
        size = half[index]
        margin = int(size * (1 + 2 * CROP_MARGIN))
        padded = np.pad(
            frames[track.first + index], ((margin, margin), (margin, margin), (0, 0)), constant_values=BORDER
        )
        x, y = centre_x[index] + margin, centre_y[index] + margin
        rows = slice(int(y - size), int(y + size * (1 + 2 * CROP_MARGIN)))
        columns = slice(int(x - size * (1 + CROP_MARGIN)), int(x + size * (1 + CROP_MARGIN)))
        crops[index] = cv2.resize(padded[rows, columns], (CROP_PIXELS, CROP_PIXELS))
    return crops


def _take_chain(left: list[list[FaceBox]]) -> list[FaceBox]:
    """The first face that is left, and those that follow it; all of them are taken out. Empty when none is left.

    Several faces of one frame may follow each other, and a face next to one that was taken is passed over: so it is in the
    original, which takes faces out of the lists it walks along.
    """
    chain: list[FaceBox] = []
    for frame in left:
        at = 0
        while at < len(frame):
            face = frame[at]
            if chain and face.frame - chain[-1].frame > LONGEST_GAP:
                break
            if not chain or _overlap(face.box, chain[-1].box) > LEAST_OVERLAP:
                chain.append(face)
                del frame[at]
            at += 1
    return chain


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def _filled(chain: Sequence[FaceBox]) -> FaceTrack:
    """Boxes for every frame from the first to the last, linear between detections."""
    times = np.array([face.frame for face in chain])
    boxes = np.array([face.box for face in chain])
    every = np.arange(times[0], times[-1] + 1)
    return FaceTrack(int(times[0]), np.stack([np.interp(every, times, boxes[:, side]) for side in range(4)], axis=1))


def _median_filtered(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians over 13 frames, zeros beyond the ends: scipy's medfilt, which shrinks the first and last crops a little."""
    padded = np.pad(values, SMOOTHING // 2)
    median: NDArray[np.float64] = np.median(np.lib.stride_tricks.sliding_window_view(padded, SMOOTHING), axis=1)
    return median
