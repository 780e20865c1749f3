"""Faces in frames by S3FD: from the network's many boxes to a few. What becomes of them over time is in face_tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from phonofilm.evaluation.networks.s3fd import S3FD

SCALE = 0.25
LEAST_CONFIDENCE = 0.9
_MEAN = np.array([104.0, 117.0, 123.0], np.float32)
_LEAST_LISTED = 0.05
_OVERLAP_OF_LISTED = 0.3
_OVERLAP_OF_FACES = 0.1
_MOST_LISTED = 750
_MOST_COMPARED = 5000


@dataclass(frozen=True)
class FaceBox:
    """A face in one frame: left, top, right, bottom in pixels, and the detector's confidence from 0 to 1."""

    frame: int
    box: tuple[float, float, float, float]
    confidence: float


def find_faces(
    frames: NDArray[np.uint8],
    network: S3FD,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda frame: None,
) -> Iterator[list[FaceBox]]:
    """Per frame of [n, h, w, 3] (RGB) its faces, the surest first, found at a quarter of the size."""
    import cv2
    import torch

    height, width = frames.shape[1:3]
    with torch.inference_mode():
        for index, frame in enumerate(frames):
            small = cv2.resize(frame, (0, 0), fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
            # The mean is given in the order blue, green, red; the published pipeline feeds red, green, blue.
            pixels = (small.astype(np.float32) - _MEAN[::-1]).transpose(2, 0, 1)
            boxes, chances = network(torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device))
            kept = listed_boxes(boxes[0].cpu().numpy(), chances[0].cpu().numpy())
            sure = [(box * (width, height, width, height), chance) for box, chance in kept if chance > LEAST_CONFIDENCE]
            chosen = _suppress(
                np.array([box for box, _ in sure]).reshape(-1, 4), [c for _, c in sure], _OVERLAP_OF_FACES
            )
            yield [FaceBox(index, tuple(map(float, sure[at][0])), float(sure[at][1])) for at in chosen]  # type: ignore[arg-type]
            progress(index)


def listed_boxes(
    boxes: NDArray[np.floating], chances: NDArray[np.floating]
) -> list[tuple[NDArray[np.floating], float]]:
    """The network's boxes without those that overlap a better one by more than 0.3, the best first, at most 750."""
    likely = chances > _LEAST_LISTED
    boxes, chances = boxes[likely], chances[likely]
    best = np.argsort(chances, kind="stable")[-_MOST_COMPARED:]
    kept = _suppress(boxes[best], list(chances[best]), _OVERLAP_OF_LISTED)[:_MOST_LISTED]
    return [(boxes[best[at]], float(chances[best[at]])) for at in kept]


def _suppress(boxes: NDArray[np.floating], chances: list[float], overlap: float) -> list[int]:
    """Indices of the boxes that are kept, the surest first."""
    order = list(np.argsort(np.array(chances), kind="stable")[::-1])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while order:
        first, rest = order[0], np.array(order[1:], dtype=int)
        kept.append(int(first))
        low, high = np.maximum(boxes[first, :2], boxes[rest, :2]), np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        union = area[first] + area[rest] - shared
        order = [int(at) for at in rest[shared <= overlap * union]]
    return kept
