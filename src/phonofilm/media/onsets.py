"""When sounds begin, from a waveform alone: spectral flux finds them, the waveform's own rise places them. Numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ONSET_HOP_SECONDS = 0.005
ONSET_WINDOW_SECONDS = 0.02
LAG_FRAMES = 3
BANDS = 24
LOWEST_BAND = 60.0  # Hz
SILENT_PEAK = 1e-3  # peak of full scale: -60 dB
KNEE = 1e-4  # of the loudest cell's power (-40 dB): far below it is inaudible
SHARE_OF_STRONGEST = 0.12
LEVEL_OF_RISE = 0.1
FAINTEST = 0.1  # of the clip's peak: weaker rises are noise setting in, not sounds
APART_SECONDS = 0.06
AT_A_TIME = 8192  # frames that are transformed together, 41 s


def onset_times(wave: NDArray[np.floating], sampling_rate: int) -> NDArray[np.float64]:
    """Seconds, ascending, at which sounds begin in `wave` [samples] or [channels, samples]; none in a silent clip.

    A sound begins where the waveform has made a tenth of its rise. Two onsets are at least 60 ms apart.
    """
    mono = np.atleast_2d(np.asarray(wave, np.float64)).mean(0)
    if np.abs(mono).max(initial=0.0) < SILENT_PEAK:
        return np.empty(0)
    strength = onset_strength(mono, sampling_rate)
    placed = sorted(refine_onset(mono, peak * ONSET_HOP_SECONDS, sampling_rate) for peak in pick_peaks(strength))
    faintest = FAINTEST * np.abs(mono).max()
    kept: list[float] = []
    for time in placed:
        begin = round(time * sampling_rate)
        loud = np.abs(mono[begin : begin + round(APART_SECONDS * sampling_rate)]).max(initial=0.0) > faintest
        if loud and not (kept and time - kept[-1] < APART_SECONDS):
            kept.append(time)
    return np.asarray(kept)


def onset_strength(mono: NDArray[np.float64], sampling_rate: int) -> NDArray[np.float64]:
    """[frames], one every 5 ms: how much louder the bands became over the last 15 ms, on a logarithmic scale."""
    window, hop = round(sampling_rate * ONSET_WINDOW_SECONDS), round(sampling_rate * ONSET_HOP_SECONDS)
    # Silence in front, so that a sound that begins with the clip has something to rise from; none behind, because a
    # sound cut off would count as a click.
    padded = np.pad(mono, (window // 2 + LAG_FRAMES * hop, max(0, window - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    bands, shape = band_matrix(sampling_rate, 2 * window), np.hanning(window)
    power = np.empty((len(frames), BANDS))
    for first in range(0, len(frames), AT_A_TIME):
        part = frames[first : first + AT_A_TIME] * shape
        power[first : first + AT_A_TIME] = np.abs(np.fft.rfft(part, 2 * window)) ** 2 @ bands
    level = np.log1p(power / (KNEE * power.max()))
    result: NDArray[np.float64] = np.maximum(level[LAG_FRAMES:] - level[:-LAG_FRAMES], 0).mean(1)
    return result


def band_matrix(sampling_rate: int, size: int) -> NDArray[np.float64]:
    """[size // 2 + 1, 24] which sums an FFT's bins into bands whose edges are spaced evenly on a logarithmic scale."""
    frequency = np.fft.rfftfreq(size, 1 / sampling_rate)
    edges = np.geomspace(LOWEST_BAND, min(8000.0, sampling_rate / 2), BANDS + 1)
    band = np.searchsorted(edges, frequency, side="right") - 1
    result: NDArray[np.float64] = (band[:, None] == np.arange(BANDS)).astype(np.float64)
    return result


def pick_peaks(strength: NDArray[np.float64]) -> list[int]:
    """Frames whose strength is the largest within 60 ms and stands out of its surroundings (0.2 s) and of the clip."""
    reach, around = round(APART_SECONDS / ONSET_HOP_SECONDS), 20
    floor = SHARE_OF_STRONGEST * strength.max()
    peaks: list[int] = []
    for i, value in enumerate(strength):
        near = strength[max(0, i - reach) : i + reach + 1]
        local = strength[max(0, i - around) : i + around + 1]
        stands_out = value > floor and value > 2.0 * np.median(local) + floor / 2
        if stands_out and value == near.max() and not (peaks and i - peaks[-1] <= reach):
            peaks.append(i)
    return peaks


def refine_onset(mono: NDArray[np.float64], coarse: float, sampling_rate: int) -> float:
    """The second at which the rise near `coarse` (seconds) begins: a tenth of the way from the quiet before it.

    Walks back from the rise to the first 10 ms of quiet; shorter gaps lie inside a low voice's periods.
    """
    gap = round(0.01 * sampling_rate)
    centre = round(coarse * sampling_rate)
    begin = max(0, centre - round(0.09 * sampling_rate))
    middle = min(centre + round(0.01 * sampling_rate), len(mono))
    size = np.pad(np.abs(mono[begin : min(centre + round(0.05 * sampling_rate), len(mono))]), (gap, 0))
    # The first `gap` entries stand for what came before the stretch: silence, from which anything may rise.
    loudest = np.lib.stride_tricks.sliding_window_view(size, gap).max(1)
    quiet = loudest[: max(1, middle - begin)].min()
    top = size.max()
    above = np.flatnonzero(size > quiet + LEVEL_OF_RISE * (top - quiet))
    starts = above[np.diff(above, prepend=above[0] - gap - 1) > gap]
    starts = starts[starts <= middle - begin + gap]
    first = int(starts[-1]) if len(starts) else int(above[0])
    return (begin + first - gap) / sampling_rate
