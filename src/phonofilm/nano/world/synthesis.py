"""Clean sounds made of damped and shaped sines: impacts, beeps and a formant voice. No noise, no reverberation.

Loudness convention: a full-strength event peaks at `FULL_SCALE`; weaker ones scale with their strength, and what is
not an event is exact silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phonofilm.nano.world.stage import Array, Stage

FULL_SCALE = 0.6
CEILING = 0.85


@dataclass(frozen=True)
class Partial:
    """One damped sine of an impact: frequency ratio to the fundamental, weight, decay time in seconds."""

    ratio: float
    weight: float
    decay: float


MATERIALS: dict[str, tuple[Partial, ...]] = {
    "wood": (Partial(1.0, 1.0, 0.055), Partial(2.43, 0.35, 0.03)),
    "metal": (Partial(1.0, 1.0, 0.1), Partial(2.76, 0.55, 0.09), Partial(5.40, 0.3, 0.06)),
    "stone": (Partial(1.0, 1.0, 0.022), Partial(1.59, 0.6, 0.02), Partial(3.46, 0.45, 0.012)),
    "bar": (Partial(1.0, 1.0, 0.08), Partial(3.93, 0.25, 0.04)),
}
VOWELS: dict[str, tuple[float, float, float]] = {
    "ah": (730, 1090, 2440),
    "eh": (530, 1840, 2480),
    "ee": (270, 2290, 3010),
    "oo": (310, 870, 2240),
}


def silence(stage: Stage) -> Array:
    """[samples] of zeros, to add events to."""
    return np.zeros(stage.num_samples, np.float32)


def strike(
    audio: Array, rate: int, time: float, frequency: float, strength: float, partials: Sequence[Partial]
) -> None:
    """Add one impact that starts at `time` (seconds) and rings at `frequency` Hz; strength 0..1."""
    total = sum(p.weight for p in partials)
    length = 6.5 * max(p.decay for p in partials)
    start = int(np.ceil(time * rate))
    t = np.arange(start, min(int((time + length) * rate), len(audio))) / rate - time
    if not len(t):
        return
    wave = np.zeros(len(t))
    for p in partials:
        if p.ratio * frequency < 0.45 * rate:
            wave += p.weight * np.sin(2 * np.pi * p.ratio * frequency * t) * np.exp(-t / p.decay)
    attack = np.minimum(t / 0.002, 1)
    release = np.minimum((length - t) / 0.02, 1)
    audio[start : start + len(t)] += (FULL_SCALE * strength / total * 1.15 * attack * release * wave).astype(np.float32)


def tone(stage: Stage, frequency: float, envelope: Array) -> Array:
    """A beep [samples]: a sine with two soft overtones under the given envelope [samples] in 0..1."""
    phase = 2 * np.pi * frequency * stage.sample_times
    wave = (np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.12 * np.sin(3 * phase)) / 1.25
    return (FULL_SCALE * envelope * wave).astype(np.float32)


def voice(stage: Stage, vowel: str, pitch: Array, envelope: Array) -> Array:
    """A sung vowel [samples]: harmonics of `pitch` [samples] (Hz) weighted by the vowel's three formants."""
    mean = float(np.mean(pitch))
    harmonics = np.arange(1, int(min(4000.0, 0.45 * stage.sampling_rate) / mean) + 1)
    frequency = harmonics * mean
    gain = np.zeros(len(harmonics))
    for centre, width, weight in zip(VOWELS[vowel], (90.0, 120.0, 180.0), (1.0, 0.7, 0.35), strict=True):
        gain += weight / (1 + ((frequency - centre) / width) ** 2)
    gain += 0.03 / harmonics
    table_phase = np.arange(2048) / 2048
    offsets = harmonics**2 * 0.7  # spread phases: the same spectrum with a lower peak
    table = (gain[:, None] * np.sin(2 * np.pi * harmonics[:, None] * table_phase + offsets[:, None])).sum(0)
    table /= np.abs(table).max()
    cycles = np.cumsum(pitch.astype(np.float64)) / stage.sampling_rate
    result: Array = (FULL_SCALE * envelope * np.interp(cycles % 1, table_phase, table, period=1.0)).astype(np.float32)
    return result


def gates(times: Array, starts: Sequence[float], lengths: Sequence[float], attack: float, release: float) -> Array:
    """Envelope in 0..1 at `times`: rises within `attack` of each start, falls within `release` after its length."""
    level = np.zeros(times.shape, np.float64)
    for start, length in zip(starts, lengths, strict=True):
        rise = np.clip((times - start) / attack, 0, 1)
        fall = np.clip((start + length + release - times) / release, 0, 1)
        level = np.maximum(level, np.minimum(rise, fall))
    return (level * level * (3 - 2 * level)).astype(np.float32)


def limit(audio: Array) -> Array:
    """The same sound, scaled down as a whole if overlapping events pass the ceiling."""
    peak = float(np.abs(audio).max(initial=0.0))
    return audio if peak <= CEILING else (audio * (CEILING / peak)).astype(np.float32)
