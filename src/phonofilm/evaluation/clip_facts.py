"""A clip as metrics see it: decoded once, on first use, and kept as long as the object. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import MediaError
from phonofilm.evaluation.prompt_items import PromptItem
from phonofilm.files import file_hash
from phonofilm.media.decode_once import DecodeOnce
from phonofilm.media.opening import opened, picture_stream, sound_stream, start_of
from phonofilm.media.picture import EveryFrame, read_every_frame, read_picture
from phonofilm.media.rates import source_rate
from phonofilm.media.sound import DecodedSound, read_decoded_sound, read_sound
from phonofilm.media.stillness import BlockLevels
from phonofilm.media.waveform import audio_frames, channels_first, resample
from phonofilm.media.window import DecodedFrames, Window

FARTHEST_SECONDS = 600.0  # between the beginnings of the two tracks: the silence between takes memory
SampleFormat = Literal["s16", "flt"]
Layout = Literal["mono", "stereo"]


@dataclass(frozen=True)
class TrackFacts:
    """What the container has: when each track starts (seconds of the file's clock), and (height, width).

    None for a track that is not there.
    """

    picture_start: Fraction | None
    sound_start: Fraction | None
    size: tuple[int, int] | None


@dataclass(frozen=True)
class ClipFacts:
    """One clip file, with its prompt if it has one. Frames and sound are decoded at most once, at their own rates.

    id: how reports name it. category: the group its figures are averaged in first. decode: gives every reader of the picture
    the same frames.
    """

    path: Path
    id: str
    category: str = ""
    item: PromptItem | None = None
    decode: DecodeOnce = field(default_factory=DecodeOnce, repr=False, compare=False)
    _made: dict[tuple[str, int], NDArray[Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def sha256(self) -> str:
        return file_hash(self.path)

    @cached_property
    def tracks(self) -> TrackFacts:
        """From the header alone."""
        with opened(self.path) as container:
            picture, sound = picture_stream(container), sound_stream(container)
            return TrackFacts(
                None if picture is None else start_of(picture),
                None if sound is None else start_of(sound),
                None if picture is None else (picture.height, picture.width),
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) from the header. Raises MediaError without a picture."""
        if self.tracks.size is None:
            raise MediaError(f"{self.path} has no picture")
        return self.tracks.size

    @property
    def has_picture(self) -> bool:
        return self.tracks.picture_start is not None

    @property
    def has_sound(self) -> bool:
        return self.tracks.sound_start is not None

    @cached_property
    def _picture(self) -> DecodedFrames:
        return read_picture(self.path, Window(), self.decode)

    @property
    def frames(self) -> NDArray[np.uint8]:
        """[f, h, w, 3], RGB as it is meant to be seen, at the file's own rate. Raises MediaError without a picture."""
        return self._picture.frames

    @cached_property
    def every_grey(self) -> EveryFrame:
        """[f, h, w]: every frame once, as OpenCV decodes it and makes it grey, bit for bit; and OpenCV's frame rate.

        That is what published figures were read from. Needs OpenCV.
        """
        return read_every_frame(self.path, self.decode, _grey)

    @cached_property
    def plain_grey(self) -> NDArray[np.uint8]:
        """[f, h, w]: `every_grey` at the constant `frame_rate`: where the file's is none, frames are repeated or left out."""
        if self.every_grey.regular:
            return self.every_grey.frames
        return read_picture(self.path, Window(plain=True), self.decode, _grey).frames

    @cached_property
    def is_still(self) -> bool:
        """Whether nothing in `plain_grey` ever changes, but for what coding changes."""
        levels = BlockLevels()
        for frame in self.plain_grey:
            levels.add(frame)
        return levels.never_change

    @cached_property
    def frame_rate(self) -> Fraction:
        """Frames per second of `frames` and `plain_grey`."""
        with opened(self.path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise MediaError(f"{self.path} has no picture")
            return source_rate(stream, self.path)

    @cached_property
    def _decoded_sound(self) -> DecodedSound:
        if not self.has_sound:
            raise MediaError(f"{self.path} has no sound")
        decoded = read_decoded_sound(self.path)
        if decoded is None:
            raise MediaError(f"{self.path} has a sound track without a single sample")
        return decoded

    @property
    def sound(self) -> tuple[NDArray[np.float32], int]:
        """([channels, samples], rate): the samples of the whole track one after another, encoder padding included.

        That is what command-line tools extract, which make no silence of holes in the track's timestamps.
        """
        return self._decoded_sound.wave, self._decoded_sound.rate

    @cached_property
    def timed_sound(self) -> tuple[NDArray[np.float32], int]:
        """`sound` by its timestamps, holes silent. Where the first sample lies is in `sound_delay`."""
        if self._decoded_sound.gapless:
            return self.sound
        start = self.tracks.sound_start
        assert start is not None
        read = read_sound(self.path, origin=start, seconds=None, mono=False, padding=True)
        assert read is not None
        return read

    @property
    def sound_delay(self) -> float:
        """Seconds by which the sound's first sample comes after the picture's first frame; 0 without one of them."""
        picture, sound = self.tracks.picture_start, self.tracks.sound_start
        return 0.0 if picture is None or sound is None else float(sound - picture)

    def channels(self, rate: int) -> NDArray[np.float32]:
        """The track [channels, samples] at `rate` by its timestamps, nothing mixed."""
        return self._kept(("channels", rate), lambda: resample(*self.timed_sound, rate))

    def wave(self, rate: int) -> NDArray[np.float32]:
        """`sound` [samples] at `rate`: the mean of its channels."""
        wave, own = self.sound
        return self._kept(("wave", rate), lambda: resample(wave.mean(axis=0, keepdims=True), own, rate)[0])

    def timed_wave(self, rate: int) -> NDArray[np.float32]:
        """`timed_sound` [samples] at `rate`: the mean of its channels."""
        if self._decoded_sound.gapless:
            return self.wave(rate)
        wave, own = self.timed_sound
        return self._kept(("timed wave", rate), lambda: resample(wave.mean(axis=0, keepdims=True), own, rate)[0])

    def aligned_wave(self, rate: int) -> NDArray[np.float32]:
        """`timed_wave` on the picture's clock: sample 0 is the first frame's time; silence where the sound starts later."""
        if abs(self.sound_delay) > FARTHEST_SECONDS:
            raise MediaError(
                f"the sound begins {self.sound_delay:+,.0f} s from the picture; up to {FARTHEST_SECONDS:.0f} s are read"
            )
        wave, shift = self.timed_wave(rate), round(self.sound_delay * rate)
        return np.pad(wave, (shift, 0)) if shift > 0 else wave[-shift:]

    def extracted(self, rate: int, sample_format: SampleFormat, layout: Layout = "mono") -> NDArray[Any]:
        """int16 or float32 [channels, samples]: what ffmpeg's command line makes of the track with -ar, -ac and a format.

        libav weights channels in its own way, and differently for whole numbers and for floats.
        """
        wave, own = self.sound
        return self._kept(
            (f"{sample_format} {layout}", rate), lambda: _extracted(wave, own, rate, sample_format, layout)
        )

    def _kept(self, key: tuple[str, int], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _grey(rgb: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def _extracted(
    wave: NDArray[np.float32], rate: int, target: int, sample_format: SampleFormat, layout: Layout
) -> NDArray[Any]:
    import av

    resampler = av.AudioResampler(format=sample_format, layout=layout, rate=target)
    done: list[np.ndarray] = []
    for frame in [*audio_frames(wave, rate, "flt", 1 << 16), None]:
        done += [channels_first(part) for part in resampler.resample(frame)]
    return np.concatenate(done, axis=1)
