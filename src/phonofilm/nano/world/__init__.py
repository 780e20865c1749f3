"""The procedural world: endless short clips drawn and sounded from one hidden state, each with a caption.

Seeds below `HELD_OUT_SEED` are for training; seeds from there on are never trained on and serve measuring.
The scenes of `UNSEEN_SCENES` are only made when asked for by name: the embedded model is not trained on them, and a
fine-tuning can teach it one.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from phonofilm.errors import InputError
from phonofilm.nano.world import ball, face, lamp, owl, xylophone
from phonofilm.nano.world.stage import Event, Scene, Stage, WorldClip
from phonofilm.nano.world.synthesis import limit

__all__ = ["HELD_OUT_SEED", "SCENES", "UNSEEN_SCENES", "Event", "WorldClip", "make_clip"]

HELD_OUT_SEED = 10_000_000
Renderer = Callable[[np.random.Generator, Stage], Scene]
SCENES: dict[str, Renderer] = {
    "ball": ball.render_ball,
    "face": face.render_face,
    "lamp": lamp.render_lamp,
    "xylophone": xylophone.render_xylophone,
}
UNSEEN_SCENES: dict[str, Renderer] = {"owl": owl.render_owl}


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
    names, every = tuple(SCENES), SCENES | UNSEEN_SCENES
    if scene is not None and scene not in every:
        raise InputError(f"unknown scene {scene!r}; use one of {', '.join(every)}")
    rng = np.random.default_rng((seed, 20_240_607))
    picked = names[int(rng.integers(len(names)))]
    stage = Stage(size, num_frames, frame_rate, sampling_rate)
    made = every[scene or picked](rng, stage)
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
