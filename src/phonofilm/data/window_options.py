"""Which windows of clips are wanted, as it was given to `phonofilm data doctor` and `data cache`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from phonofilm.geometry import parse_frame_rate

if TYPE_CHECKING:
    from phonofilm.data.windows import WindowPlan

DEFAULT_BUCKET = "64x64x49"  # the embedded model's own


@dataclass(frozen=True)
class WindowOptions:
    """Options by their names on the command line. bucket: "height x width x frames" each. windows: head, random or several."""

    bucket: tuple[str, ...] | None = None
    windows: str = "head"
    count: int = 1
    frame_rate: str = "24"
    seed: int = 0
    refuse_silent: bool = False

    def plan(self) -> WindowPlan:
        """The plan that these words ask for. Raises InputError for a word that cannot be read."""
        from phonofilm.data.windows import WindowPlan, parse_bucket, parse_mode

        buckets = tuple(parse_bucket(text) for text in self.bucket or (DEFAULT_BUCKET,))
        return WindowPlan(buckets, parse_frame_rate(self.frame_rate), parse_mode(self.windows), self.count, self.seed)
