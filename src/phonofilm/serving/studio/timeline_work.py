"""What the media process measures of a clip for its timeline: the waveform's outline, a spectrogram, what is heard.

What is seen, and how well the two agree, is in agreement.py.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.onset_envelope import level_db, slaney_mel
from phonofilm.media.onsets import onset_times
from phonofilm.media.read import read_clip
from phonofilm.serving.store.interface import open_store
from phonofilm.serving.studio.agreement import EMBEDDED, sound_agreement

MOST_PEAKS = 4000  # of the outline, over the whole clip
PEAKS_PER_SECOND = 100
SPECTROGRAM_RATE = 24_000
SPECTROGRAM_SIZE, SPECTROGRAM_BANDS = 1024, 96
SPECTROGRAM_COLUMNS = 1500
RANGE_DB = 70.0


def measure_timeline(place: str, name: str) -> tuple[dict[str, Any], bytes | None]:
    """The timeline as JSON values, and the spectrogram as PNG; None for a clip without sound."""
    with open_store(place).as_file(name) as path:
        clip = read_clip(path)
        about: dict[str, Any] = {
            "seconds": float(clip.seconds),
            "fps": float(clip.frame_rate),
            "num_frames": clip.num_frames,
            "width": clip.width,
            "height": clip.height,
            "sampling_rate": clip.sampling_rate,
        }
        picture, spectrogram = None, None
        if clip.audio is not None and clip.sampling_rate is not None:
            about["peaks"] = _outline(clip.audio, clip.sampling_rate)
            about["heard"] = np.round(onset_times(clip.audio, clip.sampling_rate), 4).tolist()
            spectrogram, picture = _spectrogram(clip.audio.mean(0), clip.sampling_rate)
        is_embedded = clip.metadata.get("model") == EMBEDDED
        del clip
        return {
            "peaks": None,
            "heard": [],
            "spectrogram": spectrogram,
            **about,
            **sound_agreement(ClipFacts(path, "clip"), about.get("heard", []), is_embedded),
        }, picture


def _outline(wave: NDArray[np.float32], rate: int) -> dict[str, Any]:
    """The lowest and the highest sample of each stretch, of at most two channels."""
    per_second = max(1, min(PEAKS_PER_SECOND, int(MOST_PEAKS * rate / max(1, wave.shape[1]))))
    size = max(1, rate // per_second)
    padded = np.pad(wave[:2], ((0, 0), (0, -wave.shape[1] % size)), mode="edge").reshape(len(wave[:2]), -1, size)
    channels = [
        {"low": np.round(one.min(1).clip(-1, 1), 3).tolist(), "high": np.round(one.max(1).clip(-1, 1), 3).tolist()}
        for one in padded
    ]
    return {"per_second": rate / size, "channels": channels}


def _spectrogram(mono: NDArray[np.float32], rate: int) -> tuple[dict[str, Any], bytes]:
    """A mel spectrogram as an 8-bit grey PNG, the highest band on top, and what its axes mean."""
    from PIL import Image

    from phonofilm.media.waveform import resample

    used = min(rate, SPECTROGRAM_RATE)
    wave = resample(mono[None].astype(np.float32), rate, used)[0]
    hop = max(64, -(-len(wave) // SPECTROGRAM_COLUMNS))
    power = slaney_mel(wave, used, SPECTROGRAM_SIZE, hop, SPECTROGRAM_BANDS)
    level = level_db(power, float(power.max(initial=0.0)), RANGE_DB)
    grey = np.round((level + RANGE_DB).clip(0, RANGE_DB) * 255 / RANGE_DB).astype(np.uint8)[::-1]
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(target, "PNG")
    about = {
        "width": grey.shape[1],
        "height": grey.shape[0],
        "seconds": grey.shape[1] * hop / used,
        "lowest_hz": 0.0,
        "highest_hz": used / 2,
        "range_db": RANGE_DB,
    }
    return about, target.getvalue()
