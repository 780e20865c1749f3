"""One window as pixels and waveform: decoded by timestamps, picture and sound starting together. Nothing is chosen here."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from phonofilm.data.windows import ClipWindow
from phonofilm.errors import MediaError
from phonofilm.media import Clip, read_clip
from phonofilm.media.clip import fit_length, picture_samples
from phonofilm.media.container import opened, sound_stream, start_of
from phonofilm.media.sound import read_sound
from phonofilm.media.waveform import resample


def read_window(window: ClipWindow, sampling_rate: int) -> Clip:
    """The window's bucket of frames (cropped to its shape) and its mono sound, exactly as long; no sound when it has none.

    Frames go by their timestamps to the window's frame rate, so a clip of any rate keeps its sound in time; sound that
    starts late is led in by silence. Raises MediaError when the file has fewer frames than its header promised.
    """
    item, bucket = window.item, window.bucket
    clip = read_clip(
        item.file,
        start=window.start,
        frame_rate=window.frame_rate,
        sampling_rate=sampling_rate,
        mono=True,
        max_frames=bucket.frames,
        size=(bucket.height, bucket.width),
    )
    missing = bucket.frames - clip.num_frames
    if missing > 1:
        raise MediaError(
            f"{item.file} has {clip.num_frames} frames at {float(window.frame_rate):g} per second from "
            f"{float(window.start):.2f} s on, but its header promises {bucket.frames}; it is cut off"
        )
    if missing:
        # The last frame is shown a little longer: its end fell just short of the grid.
        clip = replace(clip, frames=np.concatenate([clip.frames, clip.frames[-1:]]))
    if item.audio is not None:
        wave = _other_sound(window, sampling_rate)
        clip = replace(clip, audio=wave, sampling_rate=sampling_rate)
    return clip.trimmed_to_picture()


def _other_sound(window: ClipWindow, sampling_rate: int) -> np.ndarray:
    """The window's stretch of the separate sound file, whose first sample belongs to the clip's first frame."""
    path = window.item.audio
    assert path is not None
    with opened(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no sound")
        origin = start_of(stream) + window.start
    read = read_sound(path, origin=origin, seconds=window.seconds, mono=True)
    assert read is not None
    wave, rate = read
    samples = picture_samples(Fraction(window.seconds), sampling_rate)
    return fit_length(resample(wave, rate, sampling_rate), samples)
