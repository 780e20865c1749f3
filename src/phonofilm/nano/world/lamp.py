"""A lamp on a table that lights up with a beep. The bigger the bulb, the lower the beep."""

from __future__ import annotations

import numpy as np

from phonofilm.nano.world import palette, synthesis
from phonofilm.nano.world.canvas import Canvas
from phonofilm.nano.world.captions import describe
from phonofilm.nano.world.rhythm import beats
from phonofilm.nano.world.stage import Event, Scene, Stage

LAMP_RADIUS = {"small": 0.13, "medium": 0.175, "large": 0.225}
LAMP_TABLE = 0.84
IRON = (52, 54, 62)


def render_lamp(rng: np.random.Generator, stage: Stage) -> Scene:
    """Draw and sound one blinking lamp."""
    colour, size = palette.pick(rng, palette.COLOURS), palette.pick(rng, palette.SIZES)
    background = palette.pick(rng, palette.BACKGROUNDS)
    pitch = palette.PITCH_OF_SIZE[size]
    starts, rhythm = beats(rng, stage, shortest=0.26, longest=0.62)
    length = float(rng.uniform(0.07, 0.13))
    lengths = [length] * len(starts)
    tint = palette.COLOURS[colour]
    radius = LAMP_RADIUS[size]
    x, y = 0.5 + float(rng.uniform(-0.12, 0.12)), LAMP_TABLE - 0.2 - radius

    picture = Canvas(palette.backdrop(background, stage.size, LAMP_TABLE, (104, 76, 56)))
    picture.box(x, LAMP_TABLE - 0.03, 0.16, 0.03, IRON, corner=0.02)
    picture.box(x, LAMP_TABLE - 0.12, 0.035, 0.12, IRON)
    picture.animate(stage.num_frames)
    on = synthesis.gates(stage.frame_times, starts, lengths, 0.008, 0.05)
    picture.glow(x, y, radius * 2.6, radius * 2.6, palette.shade(tint, 1.3), 0.85 * on)
    off, bright = (np.asarray(palette.shade(tint, f), np.float32) for f in (0.52, 1.15))
    picture.ellipse(x, y, radius, radius, off + on[:, None] * (bright - off))
    picture.glow(x, y, radius * 0.75, radius * 0.75, (255, 255, 250), 0.85 * on)
    picture.box(x, y + radius + 0.01, 0.075, 0.035, (128, 130, 138), corner=0.015)

    frequency = palette.PITCHES[pitch] * float(rng.uniform(0.97, 1.03))
    envelope = synthesis.gates(stage.sample_times.astype(np.float32), starts, lengths, 0.008, 0.05)
    attributes = {
        "scene": "lamp",
        "colour": colour,
        "size": size,
        "pitch": pitch,
        "rhythm": rhythm,
        "background": background,
    }
    events = tuple(Event(start, "flash") for start in starts)
    return Scene(
        picture.frames, synthesis.tone(stage, frequency, envelope), events, attributes, describe(rng, attributes)
    )
