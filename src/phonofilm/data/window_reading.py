"""One window as pixels and waveform: decoded by timestamps, picture and sound starting together. Nothing is chosen here."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from phonofilm.data.windows import ClipWindow
from phonofilm.errors import MediaError
from phonofilm.media import Clip, read_clip
from phonofilm.media.clip import fit_length, picture_samples
from phonofilm.media.opening import opened, sound_stream, start_of
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
        wave, rate = separate_sound(item.audio, window.start, window.seconds)
        samples = picture_samples(Fraction(window.seconds), sampling_rate)
        wave = fit_length(resample(wave, rate, sampling_rate), samples)
        clip = replace(clip, audio=wave, sampling_rate=sampling_rate)
    return clip.trimmed_to_picture()


def separate_sound(path: Path, start: Fraction, seconds: Fraction) -> tuple[np.ndarray, int]:
    """(mono wave [1, samples], rate) of a separate sound file, whose first sample belongs to the clip's first frame."""
    with opened(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no sound")
        origin = start_of(stream) + start
    read = read_sound(path, origin=origin, seconds=seconds, mono=True)
    assert read is not None
    return read
