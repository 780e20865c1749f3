"""The most that one run of a model may have to do: far beyond its own size a step takes minutes, and cannot be broken off."""

from __future__ import annotations

from dataclasses import dataclass

from phonofilm.errors import InputError

# Of the pixels times frames of the model's own clip. MOVA-360p at 720p is 4.1 times its own.
MOST_TIMES = 8


@dataclass(frozen=True)
class RunSize:
    """What a model makes in one run: a clip, or a part of a film."""

    width: int
    height: int
    num_frames: int

    def __str__(self) -> str:
        return f"{self.num_frames} frames of {self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        return self.width * self.height


def check_run(asked: RunSize, own: RunSize, length: str) -> None:
    """Raises InputError for a run that is too much for a model whose own clip is `own`; `length`: the field of its frames."""
    times = asked.pixels * asked.num_frames / (own.pixels * own.num_frames)
    if times > MOST_TIMES:
        what = "size" if asked.pixels > own.pixels else length
        raise InputError(
            f"{what}: {asked} are {times:.3g} times what the model makes by itself ({own}); at most {MOST_TIMES} times: "
            "ask for a smaller size, or a shorter clip"
        )
