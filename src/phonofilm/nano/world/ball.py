"""A ball bouncing on a floor. Size decides the pitch, the floor's material the timbre, the speed the loudness."""

from __future__ import annotations

import numpy as np

from phonofilm.nano.world import palette, synthesis
from phonofilm.nano.world.canvas import Canvas
from phonofilm.nano.world.captions import describe
from phonofilm.nano.world.stage import Event, Scene, Stage

GRAVITY = 6.4  # picture heights per second squared
FLOOR = 0.84
AT_REST = 1e-4  # of the picture's height: a ball that bounces lower lies still, or it would bounce without end
BALL_RADIUS = {"small": 0.085, "medium": 0.12, "large": 0.165}
FLOORS = {"wood": (150, 98, 52), "metal": (112, 128, 146), "stone": (92, 86, 80)}


def render_ball(rng: np.random.Generator, stage: Stage) -> Scene:
    """Draw and sound one bouncing ball."""
    colour, size = palette.pick(rng, palette.COLOURS), palette.pick(rng, palette.SIZES)
    material, background = palette.pick(rng, FLOORS), palette.pick(rng, palette.BACKGROUNDS)
    pitch = palette.PITCH_OF_SIZE[size]
    radius = BALL_RADIUS[size]
    top = FLOOR - 2 * radius - 0.05
    apex = float(rng.uniform(0.5, 1.0)) * top
    impacts, speeds, height = _bounce(
        apex, float(rng.uniform(-0.75, 0.75)), float(rng.uniform(0.86, 0.97)), stage, stage.frame_times
    )
    drift = float(rng.uniform(-0.16, 0.16))
    x = 0.5 + drift * (stage.frame_times - stage.seconds / 2) + float(rng.uniform(-0.1, 0.1))

    picture = Canvas(palette.backdrop(background, stage.size, FLOOR - 0.1, FLOORS[material]))
    if material == "wood":
        for row in (FLOOR - 0.02, FLOOR + 0.09):
            picture.box(0.5, row, 0.6, 0.008, palette.shade(FLOORS["wood"], 0.72))
    elif material == "metal":
        picture.glow(0.5, FLOOR + 0.03, 0.75, 0.09, (225, 235, 245), 0.75)
    picture.animate(stage.num_frames)
    squash = np.clip(1 - height / 0.05, 0, 1) * 0.22
    rx, ry = radius * (1 + 0.6 * squash), radius * (1 - squash)
    y = FLOOR - height - ry
    closeness = np.clip(1 - height / 0.7, 0.15, 1)
    picture.glow(x, FLOOR, radius * 1.5, radius * 0.5, (10, 10, 14), 0.75 * closeness)
    tint = palette.COLOURS[colour]
    picture.ellipse(x, y, rx, ry, palette.shade(tint, 0.82))
    picture.ellipse(x - 0.1 * rx, y - 0.1 * ry, 0.82 * rx, 0.82 * ry, tint)
    picture.glow(x - 0.35 * rx, y - 0.4 * ry, 0.5 * rx, 0.45 * ry, (255, 255, 255), 0.85)

    audio = synthesis.silence(stage)
    frequency = palette.PITCHES[pitch] * float(rng.uniform(0.97, 1.03))
    for time, speed in zip(impacts, speeds, strict=True):
        synthesis.strike(audio, stage.sampling_rate, time, frequency, speed, synthesis.MATERIALS[material])
    attributes = {
        "scene": "ball",
        "colour": colour,
        "size": size,
        "pitch": pitch,
        "material": material,
        "background": background,
    }
    events = tuple(Event(time, "impact") for time in impacts)
    return Scene(picture.frames, audio, events, attributes, describe(rng, attributes))


def _bounce(
    apex: float, phase: float, restitution: float, stage: Stage, times: np.ndarray
) -> tuple[list[float], list[float], np.ndarray]:
    """Impact times, their speeds relative to the fastest possible, and the height of the ball's bottom at `times`.

    The first flight is joined at `phase` of its half-length: -1 leaves the floor, 0 is at the apex.
    """
    flight = np.sqrt(2 * apex / GRAVITY)
    start, centre = 0.0, -phase * flight
    end = centre + flight
    if end < 0.14:  # keep the first tenth of a second free of events
        centre, end = centre + 0.14, end + 0.14
    reference = np.sqrt(2 * GRAVITY * 0.65)
    impacts, speeds = [], []
    height = np.zeros_like(times)
    while start < stage.seconds and apex > AT_REST:
        inside = (times >= start) & (times < end)
        height[inside] = np.maximum(apex - 0.5 * GRAVITY * (times[inside] - centre) ** 2, 0)
        if end < stage.seconds - 0.02:
            impacts.append(float(end))
            speeds.append(float(min(np.sqrt(2 * GRAVITY * apex) / reference, 1.0)))
        apex *= restitution**2
        flight = np.sqrt(2 * apex / GRAVITY)
        start, centre, end = end, end + flight, end + 2 * flight
    return impacts, speeds, height
