"""By how much one curve comes after another, and whether that could be chance. Knows neither picture nor sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 200  # points per second
REACH_SECONDS = 1.0
SHORTEST_SECONDS = 3.0  # below, hardly a shift is left that brings a lag out of reach
SHIFTS = 200
# Seconds of the pieces of the second null. Their lengths are drawn, so that no rhythm survives.
SHORTEST_PIECE, LONGEST_PIECE = 0.4, 1.2
# By how much the third null is slower or faster.
LEAST_WARP, MOST_WARP = 1.08, 1.5
MEAN_SECONDS = 1.0
NEAR_SECONDS = 0.08

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Lag:
    """seconds: positive where `second` comes later. peak: the correlation there. p: of a peak at least as high by chance.

    p is the larger one of the first two nulls, warped_p that of the third. z: the peak's distance from the shifts' mean in
    their standard deviations. rival_seconds,
    rival: the best lag more than 80 ms away, and its correlation over the peak's: near 1 where events repeat in a rhythm.
    lags, correlation: the whole curve.
    """

    seconds: float
    peak: float
    p: float
    warped_p: float
    z: float
    rival_seconds: float
    rival: float
    lags: Curve
    correlation: Curve


def find_lag(first: Curve, second: Curve) -> Lag:
    """Correlate two curves [n] on the 200 Hz grid, and tell the best lag from chance by three nulls.

    One is 200 circular shifts of `second` that bring the best lag out of reach: they keep its rhythm, but few of them are
    independent in a short clip. Another is 200 times its pieces of 0.4 to 1.2 s in another order. The third is 200 times
    `second` 8 to 50 % slower or faster, and shifted in a circle: single events fit such a curve as well as their own, and so
    do bounces of two things that were let go at different times.

    Both curves lose their moving mean over 1 s and are scaled to unit variance. n must be that of `SHORTEST_SECONDS` or more.
    """
    a, b = _prepared(first), _prepared(second)
    reach, near = round(REACH_SECONDS * GRID), round(NEAR_SECONDS * GRID)
    lags = np.arange(-reach, reach + 1)
    correlate = _correlation_with(a, lags)
    correlation = correlate(b)
    best = int(correlation.argmax())
    peak = float(correlation[best])
    rng = np.random.default_rng(0)
    shifts = rng.choice(_out_of_reach(int(lags[best]), reach + near, len(b)), SHIFTS)
    null = np.array([correlate(np.roll(b, int(shift))).max() for shift in shifts])
    reordered = np.array([correlate(_in_pieces(b, rng)).max() for _ in range(SHIFTS)])
    warped = np.array([correlate(_prepared(_at_another_speed(second, rng))).max() for _ in range(SHIFTS)])
    shares = [(1 + int(np.count_nonzero(chance >= peak))) / (1 + SHIFTS) for chance in (null, reordered, warped)]
    others = np.where(np.abs(lags - lags[best]) > near, correlation, -np.inf)
    return Lag(
        seconds=float(lags[best] + _between(correlation, best)) / GRID,
        peak=peak,
        p=max(shares[:2]),
        warped_p=shares[2],
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


def _out_of_reach(lag: int, reach: int, length: int) -> NDArray[np.int64]:
    """The circular shifts of a curve after which `lag` is no longer within `reach` steps of 0."""
    shifts = np.arange(length)
    moved = (lag + shifts + length // 2) % length - length // 2
    return shifts[np.abs(moved) > reach]


def _in_pieces(curve: Curve, rng: np.random.Generator) -> Curve:
    """The curve cut into pieces of random lengths, in a random order, and shifted in a circle."""
    longest = len(curve) // round(SHORTEST_PIECE * GRID) + 1
    cuts = np.cumsum(np.round(rng.uniform(SHORTEST_PIECE, LONGEST_PIECE, longest) * GRID).astype(int))
    pieces = np.split(curve, cuts[cuts < len(curve)])
    mixed = np.concatenate([pieces[index] for index in rng.permutation(len(pieces))])
    return np.roll(mixed, int(rng.integers(len(mixed))))


def _at_another_speed(curve: Curve, rng: np.random.Generator) -> Curve:
    """The curve slower or faster, its end cut off or its beginning repeated, and shifted in a circle."""
    speed = float(rng.uniform(LEAST_WARP, MOST_WARP)) ** int(rng.choice((-1, 1)))
    steps = np.arange(len(curve))
    return np.roll(np.interp(steps * speed % len(curve), steps, curve), int(rng.integers(len(curve))))


def _correlation_with(a: Curve, lags: NDArray[np.int64]) -> Callable[[Curve], Curve]:
    """b [n] -> sum over t of a(t) b(t + lag) / n, with nothing beyond the ends: far lags are held down, not blown up."""
    # What a circle of this size wraps around lies beyond the lags.
    size = 1 << (len(a) + int(lags.max()) - 1).bit_length()
    spectrum = np.fft.rfft(a, size).conj()

    def correlate(b: Curve) -> Curve:
        return np.fft.irfft(spectrum * np.fft.rfft(b, size), size)[lags] / len(a)

    return correlate


def _between(curve: Curve, index: int) -> float:
    """Where, in steps from `index`, a parabola through the peak and its neighbours is highest."""
    if not 0 < index < len(curve) - 1:
        return 0.0
    left, middle, right = curve[index - 1 : index + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0
