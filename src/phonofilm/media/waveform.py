"""Waveforms in memory: changing their rate, cutting them into libav frames, and making a clip's sound ready for a file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.media.clip import Clip, fit_length, picture_samples

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

logger = logging.getLogger(__name__)

PEAK = 0.99
LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
_BLOCK = 1 << 16


def resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
    """[channels, n] at `rate` -> [channels, round(n * target / rate)] at `target`, without delay."""
    import av

    if target <= 0:
        raise InputError(f"sampling rate {target} is not positive; use for example 48000")
    if rate == target or wave.shape[1] == 0:
        return wave
    layout = LAYOUTS[len(wave) - 1]
    resampler = av.AudioResampler(format="flt", layout=layout, rate=target)
    done: list[np.ndarray] = []
    for frame in [*audio_frames(wave, rate, "flt", _BLOCK), None]:
        done += [channels_first(part) for part in resampler.resample(frame)]
    joined = np.concatenate(done, axis=1) if done else wave[:, :0]  # nothing comes of a few samples
    return fit_length(joined, round(Fraction(wave.shape[1] * target, rate)))


def audio_frames(wave: np.ndarray, rate: int, sample_format: str, size: int) -> Iterator[AudioFrame]:
    """A float waveform [channels, n] as libav frames of at most `size` samples: flt, or s16 / s32 by rounding."""
    import av

    for first in range(0, wave.shape[1], size):
        block = wave[:, first : first + size].T
        if sample_format == "s16":
            block = np.clip(np.rint(block * 32768.0), -32768, 32767).astype(np.int16)
        elif sample_format == "s32":
            # 24 significant bits in the upper part, the finest that ALAC and 24-bit wav files hold.
            block = np.clip(np.rint(block.astype(np.float64) * 2**23), -(2**23), 2**23 - 1).astype(np.int32) * 256
        # Interleaved, always: PyAV miscounts the planes of planar frames with 8 channels.
        packed = np.ascontiguousarray(block).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format=sample_format, layout=LAYOUTS[len(wave) - 1])
        frame.sample_rate = rate
        frame.pts = first
        frame.time_base = Fraction(1, rate)
        yield frame


def for_file(clip: Clip, rate: int) -> np.ndarray | None:
    """The clip's sound as it goes into a file: at `rate`, exactly as long as the picture, never clipped.

    A track whose peak exceeds 1 is turned down as a whole, and a warning says so. Raises MediaError for NaN or infinity.
    """
    if clip.audio is None or clip.sampling_rate is None:
        return None
    if not np.isfinite(clip.audio).all():
        bad = int(np.count_nonzero(~np.isfinite(clip.audio)))
        raise MediaError(f"the sound holds {bad} samples that are not numbers (NaN or infinity); it cannot be written")
    missing = clip.seconds - Fraction(clip.audio.shape[1], clip.sampling_rate)
    if missing > 1 / clip.frame_rate:
        logger.warning("the sound is %.3f s shorter than the picture; its end is silent", missing)
    wave = resample(clip.audio, clip.sampling_rate, rate)
    return within_full_scale(fit_length(wave, picture_samples(clip.seconds, rate)))


def within_full_scale(wave: np.ndarray) -> np.ndarray:
    """The wave itself, or, where a peak exceeds 1, the whole of it turned down to a peak of 0.99."""
    peak = float(np.abs(wave).max(initial=0.0))
    if peak <= 1:
        return wave
    logger.warning(
        "the sound peaks at %.2f; turned down by %.1f dB so that nothing clips", peak, 20 * math.log10(peak / PEAK)
    )
    return (wave * (PEAK / peak)).astype(np.float32)


def channels_first(frame: AudioFrame) -> np.ndarray:
    """The samples of an interleaved float frame as [channels, n]."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
