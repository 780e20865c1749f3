"""Where one scene is cut to another, seen in thumbnails. Fades and slow changes are not cuts, nor are flashes and lamps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonofilm.media.opening import opened, picture_stream

SIDE = 24
FRAMES_APART = 2  # frames either side: a flash is over by then, a cut is not
ALIKE_PICTURES = 0.35  # correlation; the same scene keeps its structure when light or a ball moves
CHANGED = 12.0  # grey levels on average
CUT_STANDS_OUT = 4.0


def thumbnails(path: Path) -> tuple[list[Fraction], NDArray[np.float32]]:
    """Seconds after the first frame, and grey thumbnails [f, 24, 24], of every frame."""
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    times, frames = [], []
    with opened(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            times.append(frame.pts * frame.time_base)
            frames.append(reformatter.reformat(frame, SIDE, SIDE, "gray", interpolation="AREA").to_ndarray())
    return [time - times[0] for time in times], np.asarray(frames, np.float32).reshape(-1, SIDE, SIDE)


def cuts(frames: NDArray[np.float32]) -> list[int]:
    """Numbers of the frames that begin a new scene."""
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2))
    return [int(i) + 1 for i in np.flatnonzero(change > CHANGED) if _is_cut(frames, change, int(i) + 1)]


def _is_cut(frames: NDArray[np.float32], change: NDArray[np.float32], first: int) -> bool:
    """Whether frame `first` begins a scene: a step among calm changes, and nothing before it is like anything after."""
    around = np.concatenate([change[max(0, first - 7) : first - 1], change[first : first + 6]])
    if len(around) and change[first - 1] < CUT_STANDS_OUT * np.median(around):
        return False
    before, after = frames[max(0, first - FRAMES_APART) : first], frames[first : first + FRAMES_APART]
    return all(np.abs(a - b).mean() > CHANGED and likeness(a, b) < ALIKE_PICTURES for a in before for b in after)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Correlation of two pictures, -1..1; pictures without structure (black, white) are alike only to each other."""
    first, second = a - a.mean(), b - b.mean()
    power = float(np.sqrt((first**2).sum() * (second**2).sum()))
    flat = SIDE * SIDE
    if power < flat:
        return 1.0 if (first**2).sum() < flat and (second**2).sum() < flat else 0.0
    return float((first * second).sum()) / power
