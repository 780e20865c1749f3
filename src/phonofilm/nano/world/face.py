"""A cartoon face that says a vowel. The vowel shapes the mouth, loudness opens it; a hat or a bow tells the voice."""

from __future__ import annotations

import numpy as np

from phonofilm.nano.world import palette, synthesis
from phonofilm.nano.world.canvas import Canvas
from phonofilm.nano.world.captions import describe
from phonofilm.nano.world.rhythm import beats
from phonofilm.nano.world.stage import Event, Scene, Stage

# half width when closed, half width when open, half height when open
MOUTHS = {"ah": (0.1, 0.115, 0.125), "eh": (0.1, 0.15, 0.08), "ee": (0.1, 0.185, 0.05), "oo": (0.08, 0.06, 0.075)}
VOICES = {"low": 110.0, "high": 235.0}
DARK = (30, 18, 24)


def render_face(rng: np.random.Generator, stage: Stage) -> Scene:
    """Draw and sound one speaking face."""
    colour, background = palette.pick(rng, palette.COLOURS), palette.pick(rng, palette.BACKGROUNDS)
    vowel, voice = palette.pick(rng, synthesis.VOWELS), palette.pick(rng, VOICES)
    starts, _ = beats(rng, stage, shortest=0.36, longest=0.7)
    lengths = [float(rng.uniform(0.12, 0.24)) for _ in starts]
    levels = [float(rng.uniform(0.7, 1.0)) for _ in starts]

    def loudness(times: np.ndarray) -> np.ndarray:
        parts = [
            level * synthesis.gates(times, [start], [length], 0.04, 0.07)
            for start, length, level in zip(starts, lengths, levels, strict=True)
        ]
        result: np.ndarray = np.max(parts, axis=0)
        return result

    tint = palette.COLOURS[colour]
    x, y = 0.5 + float(rng.uniform(-0.06, 0.06)), 0.55
    gaze = float(rng.uniform(-0.018, 0.018))
    picture = Canvas(palette.backdrop(background, stage.size))
    picture.ellipse(x, y, 0.34, 0.36, palette.shade(tint, 0.8))
    picture.ellipse(x, y, 0.32, 0.34, palette.shade(tint, 1.12))
    for side in (-1, 1):
        picture.ellipse(x + 0.13 * side, y - 0.09, 0.085, 0.1, (250, 250, 250))
        picture.ellipse(x + 0.13 * side + gaze, y - 0.08, 0.045, 0.055, DARK)
    if voice == "low":
        picture.box(x, y - 0.29, 0.33, 0.035, (28, 28, 34), corner=0.02)
        picture.box(x, y - 0.42, 0.2, 0.14, (28, 28, 34), corner=0.03)
        picture.box(x, y - 0.345, 0.2, 0.025, (190, 190, 195))
    else:
        bow = (245, 110, 170)
        for side in (-1, 1):
            picture.ellipse(x + 0.11 * side, y - 0.36, 0.11, 0.085, bow)
        picture.ellipse(x, y - 0.36, 0.05, 0.055, palette.shade(bow, 0.75))
    picture.animate(stage.num_frames)
    opening = loudness(stage.frame_times)
    closed, wide, tall = MOUTHS[vowel]
    half_width = closed + (wide - closed) * np.minimum(opening * 1.4, 1)
    half_height = 0.016 + (tall - 0.016) * opening
    picture.ellipse(x, y + 0.17, half_width, half_height, (60, 8, 18))
    if vowel in ("ee", "eh"):
        picture.box(x, y + 0.17 - 0.45 * half_height, 0.6 * half_width, 0.3 * half_height, (250, 250, 250), 0, opening)

    samples = stage.sample_times.astype(np.float32)
    hum = VOICES[voice] * float(rng.uniform(0.93, 1.07)) * (1 + 0.012 * np.sin(2 * np.pi * 5.0 * samples))
    audio = synthesis.voice(stage, vowel, hum, loudness(samples))
    attributes = {
        "scene": "face",
        "colour": colour,
        "vowel": vowel,
        "voice": voice,
        "pitch": voice,
        "background": background,
    }
    events = tuple(Event(start, "mouth") for start in starts)
    return Scene(picture.frames, audio, events, attributes, describe(rng, attributes))
