"""How a film is divided into parts of a length that the model knows. Frames and prompts only; no model, no files.

Legend: a latent frame is `factor` pixel frames. Every part but the first begins with `overlap` frames that are there already,
so it adds its own frames less those. The film is 1 + factor * k frames long wherever a part ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from phonofilm.errors import InputError
from phonofilm.generation.films.timed_prompts import TimedPrompt
from phonofilm.geometry import nearest_num_frames

# A part may be longer than the model's own clip by this much, where that saves a join.
STRETCH = Fraction(1, 8)


@dataclass(frozen=True)
class FilmPart:
    """`num_frames` that are made at once for `prompt`; the first `overlap` of them are those that end the film so far."""

    prompt: str
    num_frames: int
    overlap: int


@dataclass(frozen=True)
class PartSizes:
    """The model's own clip in frames, the frames that parts share, and frames per latent frame."""

    own_frames: int
    overlap: int
    factor: int

    @property
    def most_latents(self) -> int:
        """Latent frames after the first of the longest part."""
        return int(self.own_frames * (1 + STRETCH) - 1) // self.factor

    def check(self) -> None:
        """Raises InputError for an overlap that no part can have."""
        if self.overlap < 1 or (self.overlap - 1) % self.factor or self.overlap >= self.own_frames:
            raise InputError(
                f"overlap_frames {self.overlap} must be 1 + a multiple of {self.factor} and below the "
                f"{self.own_frames} frames of a part"
            )


def fits_one_part(num_frames: int, sizes: PartSizes) -> bool:
    """Whether the model makes so many frames at once."""
    return num_frames <= 1 + sizes.factor * sizes.most_latents


def divide(
    prompts: Sequence[TimedPrompt], num_frames: int, frame_rate: Fraction, sizes: PartSizes, continues: bool = False
) -> tuple[FilmPart, ...]:
    """The parts of a film of `num_frames`, as few as possible and of nearly equal length under each prompt.

    A prompt that ends, ends a part; the last one goes on to the end. `continues`: the film begins with `overlap` frames
    that are given.
    """
    sizes.check()
    ends = [nearest_num_frames(round(one.end * frame_rate), sizes.factor) for one in prompts[:-1]]
    overlap = (sizes.overlap - 1) // sizes.factor
    parts: list[FilmPart] = []
    done = overlap if continues else 0
    for one, end in zip(prompts, [*ends, num_frames], strict=True):
        latents = (end - 1) // sizes.factor
        if latents <= done:
            raise InputError(
                f"{one.start:g}-{one.end:g} s is shorter than {sizes.factor} frames, the least that can be made"
            )
        held = overlap if parts or continues else 0
        for size in _sizes(latents - done, held, overlap, sizes.most_latents):
            before = bool(parts) or continues
            parts.append(FilmPart(one.prompt, 1 + sizes.factor * size, sizes.overlap if before else 0))
        done = latents
    if len(parts) > 1 and parts[0].num_frames < sizes.overlap:
        raise InputError(
            f"the first part has {parts[0].num_frames} frames, fewer than overlap_frames {sizes.overlap}, from which the "
            "next one goes on; let the first prompt last longer"
        )
    return tuple(parts)


def _sizes(latents: int, held: int, overlap: int, most: int) -> list[int]:
    """Latent frames of each part that together make `latents`, the first of them beginning with `held` and the others with
    `overlap` that are there."""
    count = 1
    while latents + held + (count - 1) * overlap > count * most:
        count += 1
    total = latents + held + (count - 1) * overlap
    return [total // count + (index < total % count) for index in range(count)]
