"""Writing a waveform as a wav file, bit for bit (32-bit float)."""

from __future__ import annotations

from pathlib import Path

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
