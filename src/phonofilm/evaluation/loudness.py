"""Loudness of a waveform after ITU-R BS.1770-4: K-weighting, blocks of 400 ms, two gates. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_SECONDS = 0.4
STEP = 0.25  # of a block: blocks overlap by three quarters
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate
OFFSET = -0.691
SURROUND = 1.41
AT_A_TIME = 256  # blocks that are filtered together, 26 s: what is held at once does not grow with the track
RINGING_SECONDS = 2.0  # by then the 38 Hz high-pass has decayed by far more than float32 shows


@dataclass(frozen=True)
class Biquad:
    """A second-order filter: b over a, a[0] = 1."""

    b: tuple[float, float, float]
    a: tuple[float, float, float]


# The tables of BS.1770-4 for 48 kHz: the head's shelf, then the high-pass.
STANDARD = (
    Biquad((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    Biquad((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)


def cookbook_filters(rate: int) -> tuple[Biquad, Biquad]:
    """The approximation that pyloudnorm and audiotools use: a 4 dB shelf at 1500 Hz and a high-pass at 38 Hz."""
    shelf_gain, shelf_q, shelf_hz = 10 ** (4.0 / 40), 1 / math.sqrt(2), 1500.0
    w = 2 * math.pi * shelf_hz / rate
    alpha, cos, root = math.sin(w) / (2 * shelf_q), math.cos(w), 2 * math.sqrt(shelf_gain)
    up, down = shelf_gain + 1, shelf_gain - 1
    a0 = up - down * cos + root * alpha
    shelf = Biquad(
        (
            shelf_gain * (up + down * cos + root * alpha) / a0,
            -2 * shelf_gain * (down + up * cos) / a0,
            shelf_gain * (up + down * cos - root * alpha) / a0,
        ),
        (1.0, 2 * (down - up * cos) / a0, (up - down * cos - root * alpha) / a0),
    )
    w = 2 * math.pi * 38.0 / rate
    alpha, cos = math.sin(w) / (2 * 0.5), math.cos(w)
    a0 = 1 + alpha
    high = Biquad(((1 + cos) / 2 / a0, -(1 + cos) / a0, (1 + cos) / 2 / a0), (1.0, -2 * cos / a0, (1 - alpha) / a0))
    return shelf, high


def integrated_loudness(wave: NDArray[np.floating], rate: int, filters: tuple[Biquad, ...]) -> float | None:
    """LUFS of [channels, samples]; None when it is shorter than one block, or no block passes the gates (silence)."""
    size = round(BLOCK_SECONDS * rate)
    if wave.shape[1] < size:
        return None
    seconds = wave.shape[1] / rate
    count = round((seconds - BLOCK_SECONDS) / (BLOCK_SECONDS * STEP)) + 1
    starts = [int(BLOCK_SECONDS * index * STEP * rate) for index in range(count)]
    groups = [starts[first : first + AT_A_TIME] for first in range(0, count, AT_A_TIME)]
    blocks = np.concatenate([_block_powers(wave, rate, filters, group, size) for group in groups])
    weighted = blocks @ np.array([SURROUND if channel > 2 else 1.0 for channel in range(len(wave))])
    loudness = _lufs(weighted)
    audible = loudness >= ABSOLUTE_GATE
    if not audible.any():
        return None
    gate = float(_lufs(weighted[audible].mean())) + RELATIVE_GATE
    passing = weighted[(loudness > gate) & (loudness > ABSOLUTE_GATE)]
    return float(_lufs(passing.mean())) if len(passing) else None


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return OFFSET + 10 * np.log10(np.maximum(power, 1e-30))


def _block_powers(
    wave: NDArray[np.floating], rate: int, filters: tuple[Biquad, ...], starts: Sequence[int], size: int
) -> NDArray[np.float64]:
    """[blocks, channels]: the mean power of blocks at neighbouring `starts`, filtered with the sound that rings into them."""
    begin = max(0, starts[0] - round(RINGING_SECONDS * rate))
    power = np.square(_filtered(wave[:, begin : starts[-1] + size].astype(np.float64), filters))
    return np.array([power[:, start - begin : start - begin + size].sum(1) / size for start in starts])


def _filtered(wave: NDArray[np.float64], filters: tuple[Biquad, ...]) -> NDArray[np.float64]:
    """[channels, n] through the filters, one after another, by their frequency responses."""
    samples = wave.shape[1]
    size = 1 << math.ceil(math.log2(samples + RINGING_SECONDS * 48_000))
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones_like(turn)
    for one in filters:
        response *= np.polyval(one.b[::-1], turn) / np.polyval(one.a[::-1], turn)
    return np.fft.irfft(np.fft.rfft(wave, size) * response, size)[:, :samples]
