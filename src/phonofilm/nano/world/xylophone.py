"""A mallet that plays a little tune on four bars. The longer the bar, the lower its note; a struck bar lights up."""

from __future__ import annotations

import numpy as np

from phonofilm.nano.world import palette, synthesis
from phonofilm.nano.world.canvas import Canvas
from phonofilm.nano.world.captions import describe
from phonofilm.nano.world.rhythm import beats
from phonofilm.nano.world.stage import Event, Scene, Stage

XYLOPHONE_NOTES = (1.0, 9 / 8, 5 / 4, 3 / 2)
XYLOPHONE_TABLE = 0.88
WIDTH = {"small": 0.135, "medium": 0.18, "large": 0.225}
HEIGHT = {"small": 0.27, "medium": 0.34, "large": 0.41}
HEAD = 0.07


def render_xylophone(rng: np.random.Generator, stage: Stage) -> Scene:
    """Draw and sound one xylophone."""
    colour, size = palette.pick(rng, palette.COLOURS), palette.pick(rng, palette.SIZES)
    background = palette.pick(rng, palette.BACKGROUNDS)
    pitch = palette.PITCH_OF_SIZE[size]
    times, _ = beats(rng, stage, shortest=0.27, longest=0.5)
    bars = [int(rng.integers(4))]
    while len(bars) < len(times):
        bars.append(int((bars[-1] + rng.choice((-1, 1, 1, 2, 3))) % 4))
    tint = palette.COLOURS[colour]
    width, height = WIDTH[size], HEIGHT[size]
    centres = 0.5 + (np.arange(4) - 1.5) * width
    tops = XYLOPHONE_TABLE - height * (1 - 0.13 * np.arange(4))

    picture = Canvas(palette.backdrop(background, stage.size, XYLOPHONE_TABLE - 0.03, (104, 76, 56)))
    picture.animate(stage.num_frames)
    for bar in range(4):
        struck = np.zeros_like(stage.frame_times)
        for time, hit in zip(times, bars, strict=True):
            if hit == bar:
                age = stage.frame_times - time
                struck = np.maximum(struck, np.where(age >= 0, np.exp(-age / 0.12), 0))
        base = np.asarray(palette.shade(tint, 1.0 if bar % 2 == 0 else 0.68), np.float32)
        glow = np.asarray(palette.shade(tint, 1.75), np.float32)
        middle = (tops[bar] + XYLOPHONE_TABLE) / 2
        picture.box(
            centres[bar],
            middle,
            width * 0.45,
            (XYLOPHONE_TABLE - tops[bar]) / 2,
            base + struck[:, None] * (glow - base),
            corner=0.02,
        )
    x, y = _mallet(stage.frame_times, np.asarray(times), centres[bars], tops[bars] - HEAD)
    picture.line(x, y, 0.4, -0.3, 0.018, (178, 130, 82))
    picture.ellipse(x, y, HEAD, HEAD, (124, 74, 42))
    picture.glow(x - 0.02, y - 0.025, 0.04, 0.035, (245, 225, 200), 0.8)

    audio = synthesis.silence(stage)
    root = palette.PITCHES[pitch] * 0.87  # so that the four notes lie around the pitch class, not above it
    for time, bar in zip(times, bars, strict=True):
        synthesis.strike(audio, stage.sampling_rate, time, root * XYLOPHONE_NOTES[bar], 0.9, synthesis.MATERIALS["bar"])
    attributes = {
        "scene": "xylophone",
        "colour": colour,
        "size": size,
        "pitch": pitch,
        "background": background,
    }
    events = tuple(Event(time, "strike") for time in times)
    return Scene(picture.frames, audio, events, attributes, describe(rng, attributes))


def _mallet(times: np.ndarray, hits: np.ndarray, x_hit: np.ndarray, y_hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the mallet's head at `times`: arcs from bar to bar, touching each one at its hit time."""
    lead = 0.35
    knots = np.concatenate(([hits[0] - 2 * lead], hits, [hits[-1] + 2 * lead]))
    xs = np.concatenate((x_hit[:1], x_hit, x_hit[-1:]))
    ys = np.concatenate((y_hit[:1], y_hit, y_hit[-1:]))
    place = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    gap = knots[place + 1] - knots[place]
    u = np.clip((times - knots[place]) / gap, 0, 1)
    smooth = u * u * (3 - 2 * u)
    # before the first and after the last hit the mallet waits at the top of its arc
    u = np.where(place == 0, np.maximum(u, 0.5), np.where(place == len(knots) - 2, np.minimum(u, 0.5), u))
    lift = np.minimum(0.75 * gap, 0.3) * 4 * u * (1 - u)
    x = xs[place] + (xs[place + 1] - xs[place]) * smooth
    y = ys[place] + (ys[place + 1] - ys[place]) * smooth - lift
    return x.astype(np.float32), y.astype(np.float32)
