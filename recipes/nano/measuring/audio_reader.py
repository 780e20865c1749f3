"""Reading a world clip's pitch class, vowel and voice from its sound alone. Knows how the world sounds, never a clip's state.

Sounds are mono float [samples] at `sampling_rate`. Frames t are windows of 64 ms every 16 ms.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from phonofilm.nano.reading.frame_reader import UNRECOGNISED
from phonofilm.nano.world import synthesis
from phonofilm.nano.world.face import VOICES
from phonofilm.nano.world.palette import PITCHES
from phonofilm.nano.world.stage import Stage

WINDOW, HOP = 0.064, 0.016
SILENCE = 1e-3  # of full scale, root mean square: -60 dB
LOUD = 0.25  # of the loudest frame's amplitude
PITCH_RANGE = (120.0, 1600.0)
VOICE_RANGE = np.geomspace(80.0, 320.0, 100)
BAND_EDGES = np.concatenate((np.arange(100, 1000, 150), np.geomspace(1000, 4000, 12)))


@dataclass(frozen=True)
class AudioReading:
    """What a listener would name; "none" for silence.

    pitch: class of the strongest tone. vowel: the nearest of the world's. voice: class of the fundamental frequency.
    """

    pitch: str
    vowel: str
    voice: str


def read_voice_and_pitch(wave: NDArray[np.float32], sampling_rate: int) -> AudioReading:
    """Read [samples]. Scenes without a voice get a vowel and a voice too: the nearest ones."""
    spectra = _loud_spectra(wave, sampling_rate)
    if not len(spectra):
        return AudioReading(UNRECOGNISED, UNRECOGNISED, UNRECOGNISED)
    return AudioReading(
        _nearest(_strongest_tone(spectra, sampling_rate), PITCHES),
        _vowel(spectra, sampling_rate),
        _nearest(_fundamental(spectra, sampling_rate), VOICES),
    )


def _loud_spectra(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Magnitudes [t, frequencies] of the frames with sound in them; none of a silent clip."""
    size, hop = round(WINDOW * rate), round(HOP * rate)
    padded = np.pad(wave.astype(np.float64), (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    level = np.sqrt((frames**2).mean(1))
    loud = frames[(level > LOUD * level.max()) & (level > SILENCE)]
    return np.abs(np.fft.rfft(loud * np.hanning(size), 4 * size, axis=1))


def _strongest_tone(spectra: NDArray[np.float64], rate: int) -> float:
    """Hz: the median over frames of each frame's strongest frequency."""
    frequency = _frequencies(spectra, rate)
    inside = (frequency >= PITCH_RANGE[0]) & (frequency <= PITCH_RANGE[1])
    return float(np.median(frequency[inside][spectra[:, inside].argmax(1)]))


def _fundamental(spectra: NDArray[np.float64], rate: int) -> float:
    """Hz: the lowest whose harmonics are loud and the middles between them quiet, over the clip's mean spectrum.

    The lowest among nearly equals, because three times the true one passes the same test.
    """
    mean, frequency = (spectra**0.3).mean(0), _frequencies(spectra, rate)
    scores = []
    for f0 in VOICE_RANGE:
        harmonics = np.arange(1, int(1600 / f0) + 1)
        on, between = (np.interp(h * f0, frequency, mean).mean() for h in (harmonics, harmonics - 0.5))
        scores.append(on - between)
    return float(VOICE_RANGE[int(np.argmax(np.asarray(scores) > 0.75 * max(scores)))])


def _vowel(spectra: NDArray[np.float64], rate: int) -> str:
    names, templates = _vowel_templates(rate)
    return names[int((templates @ _envelope(spectra, rate)).argmax())]


@lru_cache(maxsize=4)
def _vowel_templates(rate: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The envelopes [n, bands] of the world's vowels, each sung at several pitches of each voice, and their names."""
    stage = Stage(size=1, num_frames=10, frame_rate=Fraction(24), sampling_rate=rate)
    names, envelopes = [], []
    for vowel in synthesis.VOWELS:
        for pitch in (voice * detune for voice in VOICES.values() for detune in (0.94, 0.97, 1.0, 1.03, 1.06)):
            hum = np.full(stage.num_samples, pitch, np.float32)
            wave = synthesis.voice(stage, vowel, hum, np.ones(stage.num_samples, np.float32))
            names.append(vowel)
            envelopes.append(_envelope(_loud_spectra(wave, rate), rate))
    return tuple(names), np.stack(envelopes)


def _envelope(spectra: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The spectrum's shape as decibels in bands, without its level, of unit length: [bands]."""
    power, frequency = (spectra**2).mean(0), _frequencies(spectra, rate)
    bands = np.array([power[(frequency >= a) & (frequency < b)].mean() for a, b in itertools.pairwise(BAND_EDGES)])
    decibels = np.maximum(10 * np.log10(bands / bands.max() + 1e-12), -50)
    decibels -= decibels.mean()
    result: NDArray[np.float64] = decibels / np.linalg.norm(decibels)
    return result


def _frequencies(spectra: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    return np.linspace(0, rate / 2, spectra.shape[1])


def _nearest(frequency: float, options: dict[str, float]) -> str:
    return min(options, key=lambda name: abs(np.log(frequency / options[name])))
