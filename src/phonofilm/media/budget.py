"""How much memory the frames of one picture may take, counted while they are collected. What files claim counts for nothing."""

from __future__ import annotations

from fractions import Fraction

from phonofilm.errors import MediaError
from phonofilm.media.readable import MAX_HOLE, MAX_REPEATED_BYTES

MEMORY_SHARE = 0.8


class FrameBudget:
    """Counts what frames take while they are collected, so that no timestamp can ask for more memory than there is."""

    def __init__(self) -> None:
        import psutil

        self._free = int(psutil.virtual_memory().available * MEMORY_SHARE)
        self._repeats = MAX_REPEATED_BYTES

    def take(self, nbytes: int, times: int, seconds: Fraction) -> None:
        """A picture of `nbytes` that stands for `times` frames. Raises MediaError when that is no longer reasonable."""
        self._free -= nbytes * times
        self._repeats -= nbytes * (times - 1)
        if times > 1 and (seconds > MAX_HOLE or self._repeats < 0):
            raise MediaError(
                f"one frame of the picture stands still for {float(seconds):,.1f} s; the file is damaged, or is a slide show: "
                "bring it to a constant frame rate first, or give a smaller size"
            )
        if self._free < 0:
            raise MediaError(
                "the picture does not fit into memory; read a part of it (start, end, max_frames) or give a smaller size"
            )
