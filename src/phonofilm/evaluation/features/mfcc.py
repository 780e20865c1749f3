"""Mel-frequency cepstral coefficients as python_speech_features defines them with its default settings, in numpy.

SyncNet was trained on them, so the definition is fixed to the last detail: integer filter edges, no window, log energy
in coefficient 0.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WINDOW_SECONDS = 0.025
STEP_SECONDS = 0.01
FFT_SIZE = 512
FILTERS = 26
COEFFICIENTS = 13
PRE_EMPHASIS = 0.97
LIFTER = 22
_SMALLEST = float(np.finfo(float).eps)


def mfcc(wave: NDArray[np.integer] | NDArray[np.floating], sampling_rate: int) -> NDArray[np.float64]:
    """Samples on the scale of int16 [n] -> float64 [frames, 13], one frame every 10 ms, the last one padded with zeros.

    Coefficient 0 is the logarithm of the frame's energy. Raises ValueError for an empty waveform.
    """
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"expected samples of one channel, given the shape {list(wave.shape)}")
    signal = wave.astype(np.float64)
    signal = np.append(signal[0], signal[1:] - PRE_EMPHASIS * signal[:-1])
    power = np.abs(np.fft.rfft(_frames(signal, sampling_rate), FFT_SIZE)) ** 2 / FFT_SIZE
    energy = _nonzero(power.sum(1))
    bands = np.log(_nonzero(power @ _triangles(sampling_rate).T))
    coefficients: NDArray[np.float64] = bands @ _cosines().T * _lifter()
    coefficients[:, 0] = np.log(energy)
    return coefficients


def _frames(signal: NDArray[np.float64], sampling_rate: int) -> NDArray[np.float64]:
    """[frames, samples]: overlapping, and as many as it takes to reach the last sample."""
    length, step = _half_up(WINDOW_SECONDS * sampling_rate), _half_up(STEP_SECONDS * sampling_rate)
    count = 1 + max(0, math.ceil((len(signal) - length) / step))
    padded = np.zeros((count - 1) * step + length)
    padded[: len(signal)] = signal
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::step]


@lru_cache(maxsize=8)
def _triangles(sampling_rate: int) -> NDArray[np.float64]:
    """[26, 257]: filters whose edges are bins of the FFT, spaced evenly on the mel scale from 0 Hz to half the rate."""
    mels = np.linspace(0, 2595 * np.log10(1 + sampling_rate / 2 / 700), FILTERS + 2)
    edges = np.floor((FFT_SIZE + 1) * (700 * (10 ** (mels / 2595.0) - 1)) / sampling_rate).astype(int)
    filters = np.zeros((FILTERS, FFT_SIZE // 2 + 1))
    for row, low, peak, high in zip(filters, edges, edges[1:], edges[2:], strict=False):
        row[low:peak] = (np.arange(low, peak) - low) / (peak - low)
        row[peak:high] = (high - np.arange(peak, high)) / (high - peak)
    return filters


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """[13, 26]: the orthonormal cosine transform (DCT-II), its first 13 rows."""
    row, column = np.arange(COEFFICIENTS)[:, None], np.arange(FILTERS)
    matrix: NDArray[np.float64] = np.sqrt(2 / FILTERS) * np.cos(np.pi * row * (2 * column + 1) / (2 * FILTERS))
    matrix[0] /= math.sqrt(2)
    return matrix


@lru_cache(maxsize=1)
def _lifter() -> NDArray[np.float64]:
    lift: NDArray[np.float64] = 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    return lift


def _nonzero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact zeros only are replaced: that is the definition, so a value below the smallest step stays as it is."""
    return np.where(values == 0, _SMALLEST, values)


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)
