"""Onsets as librosa 0.11 finds them, in numpy: a mel spectrogram's rise, and its peaks. For metrics defined by librosa.

`media/onsets.py` finds onsets better; what is here reproduces published figures.

Shapes: t samples, k frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOP = 512
SIZE = 2048
BANDS = 128
AT_A_TIME = 4096  # frames that are transformed together
# Slaney's scale: linear below 1 kHz, logarithmic above.
_LINEAR_HZ, _KNEE_HZ, _LOG_STEP = 200.0 / 3, 1000.0, np.log(6.4) / 27.0


def slaney_mel(wave: NDArray[np.float32], rate: int, size: int, hop: int, bands: int) -> NDArray[np.float32]:
    """[t] -> power [bands, k]: Hann windows of `size` around every `hop`th sample, zeros beyond the ends."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, size // 2), size)[::hop]
    bank = mel_bank(rate, size, bands)
    result = np.empty((bands, len(frames)), np.float32)
    for first in range(0, len(frames), AT_A_TIME):
        result[:, first : first + AT_A_TIME] = bank @ frame_powers(frames[first : first + AT_A_TIME]).T
    return result


def frame_powers(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """[k, size] -> [k, size // 2 + 1]: the power of each frame at each frequency, under a Hann window."""
    size = frames.shape[1]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    power: NDArray[np.float32] = np.abs(np.fft.rfft(frames * window, axis=1).astype(np.complex64)) ** 2
    return power


def mel_bank(rate: int, size: int, bands: int) -> NDArray[np.float32]:
    """[bands, size // 2 + 1]: triangles of equal area, evenly spaced on Slaney's scale from 0 to half the rate."""
    edges = _hertz(np.linspace(_mel(0.0), _mel(rate / 2), bands + 2))
    ramps = edges[:, None] - np.fft.rfftfreq(size, 1 / rate)[None]
    width = np.diff(edges)
    rise, fall = -ramps[:-2] / width[:-1, None], ramps[2:] / width[1:, None]
    bank = np.maximum(0, np.minimum(rise, fall)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return bank.astype(np.float32)


def level_db(power: NDArray[np.float32], reference: float = 1.0, range_db: float = 80.0) -> NDArray[np.float32]:
    """10 log10 of `power` over `reference`, floored `range_db` below its maximum."""
    tiny = 1e-10
    level = 10.0 * np.log10(np.maximum(tiny, power)) - 10.0 * np.log10(max(tiny, reference))
    result: NDArray[np.float32] = np.maximum(level, level.max() - range_db)
    return result


def onset_envelope(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """[t] -> [k]: the mean rise of the mel bands, in dB, from one frame to the next; frame i is centred on sample 512 i."""
    level = level_db(slaney_mel(wave, rate, SIZE, HOP, BANDS))
    rise = np.maximum(0.0, level[:, 1:] - level[:, :-1]).mean(axis=0)
    # one frame because the difference has one less, two because frames are centred
    return np.pad(rise, (1 + SIZE // (2 * HOP), 0))[: level.shape[1]]


def onset_peaks(envelope: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Seconds of the envelope's peaks: largest within 30 ms before, 0.07 above the mean of 100 ms either side."""
    if not envelope.any():
        return np.empty(0)
    x = envelope - envelope.min()
    x = x / (x.max() + np.finfo(x.dtype).tiny)
    before, wait, around = int(0.03 * rate // HOP), int(0.03 * rate // HOP), int(0.10 * rate // HOP)
    found: list[int] = []
    n = 0
    while n < len(x):
        is_largest = x[n] == x[max(0, n - before) : n + 1].max()
        if is_largest and x[n] >= x[max(0, n - around) : n + around + 1].mean() + 0.07:
            found.append(n)
            n += wait
        n += 1
    return np.asarray(found) * HOP / rate


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _LINEAR_HZ
    return float(_KNEE_HZ / _LINEAR_HZ + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE_HZ / _LINEAR_HZ
    return np.where(mel < knee, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mel - knee)))
