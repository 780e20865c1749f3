"""By how much one curve comes after another, and whether that could be chance. Knows neither picture nor sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 200  # points per second
REACH_SECONDS = 1.0
APART_SECONDS = 1.2  # the null's shifts are longer than any lag that is looked for
SHORTEST_SECONDS = 3.0  # below, hardly any shift is left for the null
SHIFTS = 200
MEAN_SECONDS = 1.0
NEAR_SECONDS = 0.08

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Lag:
    """seconds: positive where `second` comes later. peak: the correlation there. p: of a peak at least as high by chance.

    z: the peak's distance from the null's mean in its standard deviations. rival_seconds, rival: the best lag more than 80 ms
    away, and its correlation over the peak's: near 1 where events repeat in a rhythm. lags, correlation: the whole curve.
    """

    seconds: float
    peak: float
    p: float
    z: float
    rival_seconds: float
    rival: float
    lags: Curve
    correlation: Curve


def find_lag(first: Curve, second: Curve) -> Lag:
    """Correlate two curves [n] on the 200 Hz grid; the null is 200 circular shifts of `second` by more than 1.2 s.

    Both lose their moving mean over 1 s and are scaled to unit variance. n must be that of `SHORTEST_SECONDS` or more.
    """
    a, b = _prepared(first), _prepared(second)
    reach, apart = round(REACH_SECONDS * GRID), round(APART_SECONDS * GRID)
    lags = np.arange(-reach, reach + 1)
    correlation = _correlated(a, b, lags)
    shifts = np.random.default_rng(0).integers(apart + 1, len(b) - apart, SHIFTS)
    null = np.array([_correlated(a, np.roll(b, int(shift)), lags).max() for shift in shifts])
    best = int(correlation.argmax())
    peak = float(correlation[best])
    others = np.where(np.abs(lags - lags[best]) > NEAR_SECONDS * GRID, correlation, -np.inf)
    return Lag(
        seconds=float(lags[best] + _between(correlation, best)) / GRID,
        peak=peak,
        p=float(1 + np.count_nonzero(null >= peak)) / (1 + SHIFTS),
        z=float((peak - null.mean()) / max(float(null.std()), 1e-12)),
        rival_seconds=float(lags[others.argmax()]) / GRID,
        rival=float(others.max() / peak) if peak > 0 else 1.0,
        lags=lags / GRID,
        correlation=correlation,
    )


def on_grid(times: NDArray[np.floating], values: Curve, seconds: float) -> Curve:
    """A curve sampled at ascending `times` on the 200 Hz grid of a clip, straight between them and 0 outside."""
    grid = np.arange(round(seconds * GRID)) / GRID
    return np.interp(grid, times, values, left=0.0, right=0.0)


def _prepared(curve: Curve) -> Curve:
    window = round(MEAN_SECONDS * GRID)
    ones = np.ones(window)
    mean = np.convolve(curve, ones, "same") / np.convolve(np.ones(len(curve)), ones, "same")
    centred = curve - mean
    result: Curve = (centred - centred.mean()) / max(float(centred.std()), 1e-12)
    return result


def _correlated(a: Curve, b: Curve, lags: NDArray[np.int64]) -> Curve:
    """sum over t of a(t) b(t + lag) / n, with nothing beyond the ends: far lags are held down, not blown up."""
    size = 1 << (len(a) + len(b) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(a, size).conj() * np.fft.rfft(b, size), size)
    return product[lags] / len(a)


def _between(curve: Curve, index: int) -> float:
    """Where, in steps from `index`, a parabola through the peak and its neighbours is highest."""
    if not 0 < index < len(curve) - 1:
        return 0.0
    left, middle, right = curve[index - 1 : index + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0
