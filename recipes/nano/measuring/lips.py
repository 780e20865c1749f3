"""A sound that leads: do the embedded model's lips follow a given sound as closely as one that they are made with?

    python -m recipes.nano.measuring.lips -o DIR --clips 24

Faces of held-out clips, first frame and caption given. Rows: the model makes the sound too; the world's sound is given; the
sound of the first row is given, with other noise (what differs from the second row is the sound alone); the pictures of the
second row beside the sounds of other clips (chance).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from phonofilm import Clip
from phonofilm.evaluation.sync import shuffled_pairs
from phonofilm.nano.world import WorldClip
from recipes.nano.measuring.session_clips import (
    Figures,
    Request,
    SessionClips,
    first_frame,
    held_out,
    matched,
    run,
    sound,
    sync_figures,
)

OTHER_NOISE = 1000  # added to the seed of a clip whose own sound is given back to it


def measure(clips: SessionClips, count: int) -> Figures:
    worlds = held_out("face", count)
    own = clips.make("its own sound", [Request(w.caption, i, first_frame(w)) for i, w in enumerate(worlds)])
    given = clips.make("a given sound", [_led(w, i, w.audio[None]) for i, w in enumerate(worlds)])
    back = [_led(w, OTHER_NOISE + i, sound(own[i])[0]) for i, w in enumerate(worlds)]
    return report(worlds, own, given, clips.make("its own sound, given", back))


def report(worlds: Sequence[WorldClip], own: Sequence[Clip], given: Sequence[Clip], back: Sequence[Clip]) -> Figures:
    """The rows; and the share of clips of the second whose sound is the given one, sample by sample."""
    frame = float(1 / worlds[0].frame_rate)

    def row(clips: Sequence[Clip]) -> Figures:
        return sync_figures([matched(clip) for clip in clips], frame)

    pairs = shuffled_pairs(["face"] * len(worlds))
    chance = [matched(given[picture], given[other]) for picture, other in pairs]
    kept = [np.array_equal(sound(c)[0], w.audio[None]) for c, w in zip(given, worlds, strict=True)]
    return {
        "its own sound": row(own),
        "a given sound": row(given),
        "its own sound, given": row(back),
        "a given sound, shuffled": sync_figures(chance, frame),
        "given sound kept to the sample": round(100 * float(np.mean(kept))),
    }


def _led(world: WorldClip, seed: int, wave: np.ndarray) -> Request:
    return Request(world.caption, seed, first_frame(world), audio=(wave, world.sampling_rate))


if __name__ == "__main__":
    run(__doc__, "lips", 24, measure)
