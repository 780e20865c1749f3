"""The procedural world: endless short clips drawn and sounded from one hidden state, each with a caption.

Seeds below `HELD_OUT_SEED` are for training; seeds from there on are never trained on and serve measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from phonofilm.errors import InputError
from phonofilm.nano.world import ball, face, lamp, xylophone
from phonofilm.nano.world.sound import limit
from phonofilm.nano.world.stage import Event, Scene, Stage, WorldClip

__all__ = ["HELD_OUT_SEED", "SCENES", "Event", "WorldClip", "make_clip"]

HELD_OUT_SEED = 10_000_000
SCENES: dict[str, Callable[[np.random.Generator, Stage], Scene]] = {
    "ball": ball.render,
    "face": face.render,
    "lamp": lamp.render,
    "xylophone": xylophone.render,
}


def make_clip(
    seed: int,
    *,
    scene: str | None = None,
    size: int = 64,
    num_frames: int = 49,
    frame_rate: Fraction = Fraction(24),
    sampling_rate: int = 16000,
) -> WorldClip:
    """Render the clip of this seed; without `scene`, the seed picks one of `SCENES` as well.

    The same arguments always give the same clip. Raises `InputError` on an unknown scene.
    """
    names = tuple(SCENES)
    if scene is not None and scene not in SCENES:
        raise InputError(f"unknown scene {scene!r}; use one of {', '.join(names)}")
    rng = np.random.default_rng((seed, 20_240_607))
    picked = names[int(rng.integers(len(names)))]
    stage = Stage(size, num_frames, frame_rate, sampling_rate)
    made = SCENES[scene or picked](rng, stage)
    return WorldClip(
        frames=np.clip(made.frames + 0.5, 0, 255).astype(np.uint8),
        audio=limit(made.audio),
        caption=made.caption,
        events=made.events,
        attributes=made.attributes,
        seed=seed,
        frame_rate=frame_rate,
        sampling_rate=sampling_rate,
    )
