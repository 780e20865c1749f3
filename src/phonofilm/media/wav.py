"""Writing a waveform as a wav file: bit for bit (32-bit float), or as every program reads it (16-bit PCM)."""

from __future__ import annotations

import wave as wave_files
from pathlib import Path
from typing import BinaryIO

import numpy as np

from phonofilm.media.opening import url
from phonofilm.media.waveform import LAYOUTS, audio_frames

_BLOCK = 1 << 14


def write_wav(path: Path, wave: np.ndarray, sampling_rate: int) -> None:
    """float32 [channels, samples] as it is. Raises libav's errors; callers write to a temporary name and translate them."""
    import av

    with av.open(url(path), "w", format="wav") as output:
        stream = output.add_stream("pcm_f32le", rate=sampling_rate, layout=LAYOUTS[len(wave) - 1])
        for frame in audio_frames(wave, sampling_rate, "flt", _BLOCK):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_pcm_wav(target: BinaryIO, wave: np.ndarray, sampling_rate: int) -> None:
    """float32 [channels, samples] in -1..1, what is louder clipped, as 16-bit integers."""
    samples = np.round(wave.clip(-1.0, 1.0) * 32767).astype("<i2")
    with wave_files.open(target, "wb") as file:
        file.setnchannels(len(wave))
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes(np.ascontiguousarray(samples.T).tobytes())
