"""An owl on a table that lifts both wings and calls: two notes, the second lower, which nothing else here plays.

It is not one of the scenes that the embedded model is trained on, so that a fine-tuning has something to teach.
"""

from __future__ import annotations

import numpy as np

from phonofilm.nano.world import palette, synthesis
from phonofilm.nano.world.canvas import Canvas, Colour
from phonofilm.nano.world.captions import describe
from phonofilm.nano.world.rhythm import beats
from phonofilm.nano.world.stage import Array, Event, Scene, Stage

OWL_COLOURS = ("red", "green", "blue")
OWL_TABLE = 0.84
BROWN = (104, 76, 56)
PUPIL = (30, 18, 24)
EYE_X, EYE_Y, EYE_SIZE = 0.11, 0.46, (0.09, 0.1)  # from the owl's middle; from the top; radii
OWL_NOTES = (palette.PITCHES["high"], palette.PITCHES["mid"])
NOTE_SECONDS = 0.12


def render_owl(rng: np.random.Generator, stage: Stage) -> Scene:
    """Draw and sound one calling owl."""
    colour, background = palette.pick(rng, OWL_COLOURS), palette.pick(rng, palette.BACKGROUNDS)
    starts, _ = beats(rng, stage, shortest=0.42, longest=0.7)
    x = 0.5 + float(rng.uniform(-0.06, 0.06))

    picture = Canvas(palette.backdrop(background, stage.size, OWL_TABLE, BROWN))
    picture.animate(stage.num_frames)
    lengths = [2 * NOTE_SECONDS - 0.04] * len(starts)
    _draw(picture, x, palette.COLOURS[colour], synthesis.gates(stage.frame_times, starts, lengths, 0.008, 0.05))

    audio = synthesis.silence(stage)
    times = stage.sample_times.astype(np.float32)
    for order, frequency in enumerate(OWL_NOTES):
        begins = [start + order * NOTE_SECONDS for start in starts]
        envelope = synthesis.gates(times, begins, [NOTE_SECONDS - 0.03] * len(starts), 0.008, 0.03)
        audio += synthesis.tone(stage, frequency, envelope)
    attributes = {"scene": "owl", "colour": colour, "background": background}
    events = tuple(Event(start, "call") for start in starts)
    return Scene(picture.frames, audio, events, attributes, describe(rng, attributes))


def portrait(x: float, size: int, lift: float) -> Array:
    """[size, size, 3] in 0..255: a red owl on white around `x`, its wings down (lift 0) or up (1), for readers."""
    picture = Canvas(np.full((size, size, 3), 255, np.float32))
    _draw(picture, x, palette.COLOURS["red"], np.full(1, lift, np.float32))
    result: Array = picture.frames[0]
    return result


def _draw(picture: Canvas, x: float, tint: Colour, lift: Array) -> None:
    """lift [f]: 0 with the wings at the body, 1 with both raised."""
    for side in (-1, 1):
        picture.ellipse(x + side * (0.2 + 0.12 * lift), 0.66 - 0.2 * lift, 0.1, 0.15, palette.shade(tint, 0.82))
    for side in (-1, 1):
        picture.ellipse(x + 0.15 * side, 0.26, 0.07, 0.09, tint)
    picture.ellipse(x, 0.57, 0.25, 0.31, palette.shade(tint, 0.8))
    picture.ellipse(x, 0.57, 0.23, 0.29, palette.shade(tint, 1.12))
    for side in (-1, 1):
        picture.ellipse(x + EYE_X * side, EYE_Y, *EYE_SIZE, (250, 250, 250))
        picture.ellipse(x + EYE_X * side, EYE_Y, 0.045, 0.055, PUPIL)
    picture.ellipse(x, 0.63, 0.05, 0.03 + 0.05 * lift, (60, 8, 18))
