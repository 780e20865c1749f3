"""What the media process measures of a clip for its timeline: the waveform's outline, a spectrogram, onsets, the lag.

The lag is `phonofilm evaluate`'s, with its test against chance; the onsets seen are the peaks of the curve that it uses.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.onset_lag import OnsetLag
from phonofilm.evaluation.onset_envelope import level_db, slaney_mel
from phonofilm.media.onsets import onset_times
from phonofilm.media.read import read_clip
from phonofilm.serving.store.interface import open_store

MOST_PEAKS = 4000  # of the outline, over the whole clip
PEAKS_PER_SECOND = 100
SPECTROGRAM_RATE = 24_000
SPECTROGRAM_SIZE, SPECTROGRAM_BANDS = 1024, 96
SPECTROGRAM_COLUMNS = 1500
RANGE_DB = 70.0
SEEN_SHARE = 0.25  # of the strongest impact: below, nothing is marked
SEEN_APART = 0.12  # seconds
FIRST_SEEN = 0.1  # seconds: that a picture begins is no event
NEEDS_EVALUATE = "seeing what strikes needs the extra evaluate: pip install 'phonofilm[evaluate]'"


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
        del clip
        return {
            "peaks": None,
            "heard": [],
            "spectrogram": spectrogram,
            **about,
            **_agreement(ClipFacts(path, "clip")),
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


def _agreement(facts: ClipFacts) -> dict[str, Any]:
    """What is seen to strike, and by how much the sound comes later."""
    nothing: dict[str, Any] = {"milliseconds": None, "significance": None, "curve": None}
    if find_spec("cv2") is None:
        return {"seen": None, "impact": None, "lag": {**nothing, "reason": NEEDS_EVALUATE}}
    impact = _impact(facts)
    seen = _peaks(impact, float(facts.frame_rate))
    found: dict[str, Any] = {"seen": seen, "impact": np.round(impact, 3).tolist()}
    if not facts.has_sound:
        return {**found, "lag": {**nothing, "reason": "the clip has no sound"}}
    row = OnsetLag(Setup()).measure(facts)
    curve = None
    if "lags" in row.series:
        curve = {
            "seconds": [round(float(one), 3) for one in row.series["lags"]],
            "correlation": [round(float(one), 4) for one in row.series["correlation"]],
        }
    milliseconds = row.values.get("lag_ms")
    lag = {
        "milliseconds": None if milliseconds is None else round(float(milliseconds), 1),
        "significance": row.detail.get("p"),
        "reason": row.reason or None,
        "curve": curve,
    }
    return {**found, "lag": lag}


def _impact(facts: ClipFacts) -> NDArray[np.float64]:
    """[frames], 0 to 1: how much motion stops at each frame."""
    from phonofilm.evaluation.flow import directograms
    from phonofilm.evaluation.metrics.onset_lag import impacts_of

    grey = facts.plain_grey
    result = np.zeros(len(grey))
    if len(grey) > 2:
        result[1:-1] = impacts_of(directograms(grey))
    result[: round(FIRST_SEEN * float(facts.frame_rate))] = 0.0
    peak = float(result.max(initial=0.0))
    return result / peak if peak > 0 else result


def _peaks(impact: NDArray[np.float64], fps: float) -> list[float]:
    """Seconds at which an impact is the largest nearby."""
    reach = max(1, round(SEEN_APART * fps))
    return [
        round(index / fps, 4)
        for index, value in enumerate(impact)
        if value >= SEEN_SHARE and value == impact[max(0, index - reach) : index + reach + 1].max()
    ]
