"""A sequence cut into consecutive runs, one per rank, whose lengths differ by one at most: any length, no padding."""

from __future__ import annotations

from dataclasses import dataclass

from phonofilm.errors import InputError


@dataclass(frozen=True)
class ShardRanges:
    """`total` tokens for `parts` ranks; the first ranks have the longer runs. Every rank has at least one token."""

    total: int
    parts: int

    def __post_init__(self) -> None:
        if self.total < self.parts:
            raise InputError(
                f"{self.total} video tokens cannot be shared by {self.parts} devices; use fewer devices or a larger clip"
            )

    def size(self, part: int) -> int:
        return self.total // self.parts + (part < self.total % self.parts)

    def start(self, part: int) -> int:
        return part * (self.total // self.parts) + min(part, self.total % self.parts)

    def piece(self, part: int) -> slice:
        return slice(self.start(part), self.start(part) + self.size(part))

    @property
    def longest(self) -> int:
        return self.size(0)
