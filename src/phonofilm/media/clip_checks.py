"""Measuring a finished file: timestamps, lengths, clipping, silence, frozen frames. What can be said without any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phonofilm.errors import MediaError
from phonofilm.media.decode_once import Decode, decode_for_one
from phonofilm.media.opening import end_of, opened, picture_stream, sound_stream, start_of
from phonofilm.media.rates import source_rate
from phonofilm.media.sound import read_sound
from phonofilm.media.stillness import BlockLevels

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_STILL = 0.05
_ROWS = 32  # of two frames that are compared at a time
_FULL_SCALE = 0.9999
_SILENCE_DB = -60
_WINDOW_SECONDS = 0.02
_DEAD = 1e-4
_CLIPPED_SHARE = 1e-4
_NEARLY_ALL = 0.99
_START_SLACK = Fraction(1, 1000)
_PART = 2**20  # samples that are measured at a time


@dataclass(frozen=True)
class PictureReport:
    """Times in seconds. jitter: the furthest a frame is from its place at constant rate. frozen_ratio: share of frames
    that repeat the one before (mean difference under 0.05 grey levels). still: nothing ever changes but for coding."""

    codec: str
    width: int
    height: int
    frames: int
    frame_rate: Fraction
    start: Fraction
    duration: Fraction
    jitter: Fraction
    frozen_ratio: float
    still: bool


@dataclass(frozen=True)
class SoundReport:
    """Times in seconds. clipped_ratio: share of samples at or over full scale. silence_ratio: share of 20 ms windows
    under -60 dBFS. dead_channels: numbers of channels without signal while another has one."""

    codec: str
    sampling_rate: int
    channels: int
    samples: int
    start: Fraction
    duration: Fraction
    peak: float
    clipped_ratio: float
    silence_ratio: float
    dead_channels: tuple[int, ...]


@dataclass(frozen=True)
class ContainerReport:
    """What a file holds, as decoded with its edit lists honoured; None for a track that is not there."""

    format: str
    picture: PictureReport | None
    sound: SoundReport | None

    @property
    def start_difference(self) -> Fraction | None:
        """Seconds by which the sound starts after the picture."""
        if self.picture is None or self.sound is None:
            return None
        return self.sound.start - self.picture.start

    @property
    def length_difference(self) -> Fraction | None:
        """Seconds by which the sound lasts longer than the picture; within one sample for files that we write."""
        if self.picture is None or self.sound is None:
            return None
        return self.sound.duration - self.picture.duration

    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong or missing; empty for a sound clip."""
        found = [
            f"there is no {name}" for name, track in (("picture", self.picture), ("sound", self.sound)) if track is None
        ]
        if self.picture is not None:
            found += _picture_problems(self.picture)
        if self.sound is not None:
            found += _sound_problems(self.sound)
        start, length = self.start_difference, self.length_difference
        if start is not None and abs(start) > _START_SLACK:
            found.append(f"the sound starts {_ms(start)} {'after' if start > 0 else 'before'} the picture")
        if length is not None and self.picture is not None and abs(length) > 1 / self.picture.frame_rate:
            found.append(f"the sound is {_ms(length)} {'longer' if length > 0 else 'shorter'} than the picture")
        return found


def check_container(path: str | Path, decode: Decode = decode_for_one) -> ContainerReport:
    """Decode a whole file and measure it. Raises InputError when there is none, MediaError when it cannot be read."""
    with opened(path) as container:
        name = container.format.name
        picture, sound = picture_stream(container), sound_stream(container)
        if picture is None and sound is None:
            raise MediaError(f"{path} has neither picture nor sound")
        picture_report = None if picture is None else _measure_picture(container, picture, path, decode)
        codec = None if sound is None else sound.codec_context.codec.canonical_name
        start = None if sound is None else start_of(sound)
    sound_report = None if codec is None or start is None else _measure_sound(path, codec, start)
    return ContainerReport(name, picture_report, sound_report)


def _measure_picture(container: InputContainer, stream: VideoStream, path: str | Path, decode: Decode) -> PictureReport:
    from av.video.reformatter import VideoReformatter

    rate = source_rate(stream, path)
    reformatter = VideoReformatter()  # one for all frames: to make one costs more than to convert a frame
    times: list[Fraction] = []
    frozen = 0
    last = Fraction(0)
    previous: np.ndarray | None = None
    levels = BlockLevels()
    for frame in decode(container, stream):
        if frame.pts is None or frame.time_base is None:
            raise MediaError(f"{path}: a frame has no timestamp")
        times.append(frame.pts * frame.time_base)
        last = (frame.duration or 0) * frame.time_base
        picture = np.asarray(reformatter.reformat(frame, format="gray").to_ndarray(), np.uint8)
        levels.add(picture)
        frozen += previous is not None and _repeats(previous, picture)
        previous = picture
    if not times:
        raise MediaError(f"{path} has a picture track without a single frame that can be decoded")
    jitter = max(abs(time - times[0] - index / rate) for index, time in enumerate(times))
    end = end_of(stream)
    if end is None:
        # Matroska: only rounded times. An even grid is as long as its frames.
        even = jitter <= (stream.time_base or 0)
        end = times[0] + len(times) / rate if even else times[-1] + (last or 1 / rate)
    return PictureReport(
        codec=stream.codec_context.codec.canonical_name,
        width=stream.width,
        height=stream.height,
        frames=len(times),
        frame_rate=rate,
        start=times[0],
        duration=end - times[0],
        jitter=jitter,
        frozen_ratio=frozen / max(1, len(times) - 1),
        still=levels.never_change,
    )


def _repeats(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two grey frames differ by less than 0.05 levels on average; most pairs differ in their first rows."""
    if before.shape != after.shape:
        return False
    difference = 0
    for first in range(0, len(before), _ROWS):
        one, other = before[first : first + _ROWS], after[first : first + _ROWS]
        difference += int((np.maximum(one, other) - np.minimum(one, other)).sum(dtype=np.int64))
        if difference / before.size >= _STILL:
            return False
    return True


def _measure_sound(path: str | Path, codec: str, start: Fraction) -> SoundReport:
    read = read_sound(path, origin=start, seconds=None, mono=False)
    assert read is not None
    wave, rate = read
    peaks = np.maximum(wave.max(axis=1, initial=0.0), -wave.min(axis=1, initial=0.0))
    dead = tuple(int(channel) for channel in np.flatnonzero(peaks < _DEAD)) if peaks.max() >= _DEAD else ()
    return SoundReport(
        codec=codec,
        sampling_rate=rate,
        channels=len(wave),
        samples=wave.shape[1],
        start=start,
        duration=Fraction(wave.shape[1], rate),
        peak=float(peaks.max()),
        clipped_ratio=_share(wave, lambda part: np.abs(part) >= _FULL_SCALE),
        silence_ratio=_silence_ratio(wave, rate),
        dead_channels=dead,
    )


def _silence_ratio(wave: np.ndarray, rate: int) -> float:
    size = max(1, round(rate * _WINDOW_SECONDS))
    whole = wave[:, : wave.shape[1] // size * size]
    if whole.size == 0:
        return 1.0 if not wave.any() else 0.0
    windows = whole.reshape(len(wave), -1, size).swapaxes(1, 2)

    def is_silent(part: np.ndarray) -> np.ndarray:
        power = np.square(part, dtype=np.float64).mean(axis=1).max(axis=0)
        result: np.ndarray = power < 10 ** (_SILENCE_DB / 10)
        return result

    return _share(windows, is_silent, max(1, _PART // size))


def _share(values: np.ndarray, test: Callable[[np.ndarray], np.ndarray], step: int = _PART) -> float:
    """The share of the last axis (of all values, if the test keeps its shape) that passes, a part at a time to save memory."""
    passed = total = 0
    for first in range(0, values.shape[-1], step):
        result = test(values[..., first : first + step])
        passed += int(np.count_nonzero(result))
        total += result.size
    return passed / total if total else 0.0


def _picture_problems(picture: PictureReport) -> list[str]:
    found = []
    if picture.jitter > 1 / (2 * picture.frame_rate):
        found.append(f"the frames are unevenly timed, by up to {_ms(picture.jitter)}")
    if picture.frames > 1 and picture.still:
        found.append("the picture never changes")
    return found


def _sound_problems(sound: SoundReport) -> list[str]:
    found = []
    if sound.clipped_ratio > _CLIPPED_SHARE:
        found.append(f"the sound is clipped ({sound.clipped_ratio:.2%} of the samples at full scale)")
    if sound.silence_ratio > _NEARLY_ALL:
        found.append("the sound is silent")
    if sound.dead_channels:
        found.append(f"channel {', '.join(map(str, sound.dead_channels))} has no signal")
    return found


def _ms(seconds: Fraction) -> str:
    return f"{abs(float(seconds)) * 1000:.1f} ms"
