"""Decoding a file's sound by timestamps: sample 0 at the time asked for, padding cut, holes silent. No picture here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phonofilm.errors import MediaError
from phonofilm.media.opening import end_of, is_mp4_family, opened, sound_stream, start_of
from phonofilm.media.readable import HIGHEST_SAMPLE, MAX_HOLE, MAX_SOUND_BYTES
from phonofilm.media.waveform import channels_first, resample

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# A hole in the timestamps longer than this is a real one; shorter ones are the container's rounding.
_GAP = Fraction(20, 1000)
_EDIT_ROUNDING = Fraction(1, 1000)
_SEEK_AHEAD = 2
_PREROLL = Fraction(1, 4)


@dataclass(frozen=True)
class _Timed:
    """A decoded frame, when it starts (file time), and where the packets read so far end."""

    frame: AudioFrame
    start: Fraction
    packets_end: Fraction


def read_audio(
    path: str | Path, sampling_rate: int | None = None, *, mono: bool = False, seconds: Fraction | None = None
) -> tuple[np.ndarray, int]:
    """The whole sound of any file, or its first `seconds`: (float32 [channels, samples], samples per second).

    Sample 0 is the file's time 0: a track that starts later than the picture beside it begins with silence.
    `sampling_rate` resamples; `mono` averages the channels. Raises MediaError when there is no sound, it is damaged, holds
    NaN or infinity, or is too long to be held in memory.
    """
    with opened(path) as container:
        if sound_stream(container) is None:
            raise MediaError(f"{path} has no sound")
        origin = min(start_of(stream) for stream in [*container.streams.video, *container.streams.audio])
    sound = read_sound(path, origin=origin, seconds=seconds, mono=mono)
    if sound is None or sound[0].shape[1] == 0:
        raise MediaError(f"{path} has a sound track without a single sample")
    wave, rate = sound
    target = rate if sampling_rate is None else sampling_rate
    return resample(wave, rate, target), target


def read_sound(
    path: str | Path, *, origin: Fraction, seconds: Fraction | None, mono: bool, padding: bool = False
) -> tuple[np.ndarray, int] | None:
    """(float32 [channels, samples], rate) from file time `origin` on, for at most `seconds`; None without a track.

    `padding` keeps what the encoder added behind the track's declared end.
    """
    with opened(path) as container:
        stream = sound_stream(container)
        if stream is None:
            return None
        rate = stream.codec_context.sample_rate
        limit = None if seconds is None else math.ceil(seconds * rate)
        end = end_of(stream) if is_mp4_family(container) and not padding else None
        wave = _placed(_timed_from(container, stream, origin), origin, rate, limit, mono, end)
        channels = 1 if mono else stream.codec_context.layout.nb_channels
    return (np.zeros((channels, 0), np.float32) if wave is None else wave), rate


@dataclass(frozen=True)
class DecodedSound:
    """Every sample that decodes, one after another: float32 [channels, samples], samples per second.

    gapless: whether the track's timestamps leave no holes and overlaps, so that `read_sound` gives the same.
    """

    wave: np.ndarray
    rate: int
    gapless: bool


def read_decoded_sound(path: str | Path) -> DecodedSound | None:
    """What command-line tools extract: the encoder's padding too, and nothing for holes. None without a track or a sample."""
    blocks: list[np.ndarray] = []
    position, gapless = 0, True
    with opened(path) as container:
        stream = sound_stream(container)
        if stream is None:
            return None
        rate, origin = stream.codec_context.sample_rate, start_of(stream)
        for timed, block in _decoded(_timed(container, stream), rate, mono=False):
            apart = abs(round((timed.start - origin) * rate) - position)
            gapless = gapless and apart <= (_GAP * rate if blocks else 0)
            blocks.append(block)
            position += block.shape[1]
            _check_length(position, len(block), rate)
    return DecodedSound(_joined(blocks, position), rate, gapless) if position else None


def _timed(container: InputContainer, stream: AudioStream) -> Iterator[_Timed]:
    end = Fraction(0)
    for packet in container.demux(stream):
        if packet.pts is not None and packet.time_base is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        for frame in packet.decode():
            if frame.pts is None or frame.time_base is None:
                raise MediaError("the sound has no timestamps")
            yield _Timed(frame, frame.pts * frame.time_base, end)


def _timed_from(container: InputContainer, stream: AudioStream, origin: Fraction) -> Iterator[_Timed]:
    """Decoded frames from shortly before `origin`; seeks when that is far into the file."""
    assert stream.time_base is not None
    if origin - start_of(stream) > _SEEK_AHEAD:
        container.seek(int((origin - _PREROLL) / stream.time_base), stream=stream)
        frames = _timed(container, stream)
        first = next(frames, None)
        if first is not None and first.start <= origin:
            yield first
            yield from frames
            return
        container.seek(int(start_of(stream) / stream.time_base), stream=stream)
    yield from _timed(container, stream)


def _placed(
    frames: Iterator[_Timed], origin: Fraction, rate: int, limit: int | None, mono: bool, end: Fraction | None
) -> np.ndarray | None:
    """The waveform from `origin` to `limit` samples or the end: silence for holes, cuts for overlaps. None: no frames.

    end: where the container says the track ends, if its word is exact; what is decoded after that is padding.
    """
    blocks: list[np.ndarray] = []
    position = 0
    for timed, block in _decoded(frames, rate, mono):
        start = round((timed.start - origin) * rate)
        if position == 0 or abs(start - position) > _GAP * rate:
            if start > position:
                silence = start - position if limit is None else min(start, limit) - position
                _check_hole(Fraction(silence, rate), Fraction(position, rate))
                blocks.append(np.zeros((len(block), silence), np.float32))
                position += silence
            block = block[:, max(0, position - start) :]
        blocks.append(block)
        position += block.shape[1]
        _check_length(position, len(block), rate)
        if limit is not None and position >= limit:
            break
    if not blocks:
        return None
    if end is not None:
        # Many files round the track's end to milliseconds; then the end of its last packet is the finer word.
        end = timed.packets_end if abs(timed.packets_end - end) <= _EDIT_ROUNDING else end
        presented = max(0, round((end - origin) * rate))
        limit = presented if limit is None else min(limit, presented)
    return _joined(blocks, position)[:, :limit]


def _joined(blocks: list[np.ndarray], samples: int) -> np.ndarray:
    """One array, giving each block back to memory as it is copied."""
    wave = np.empty((len(blocks[0]), samples), np.float32)
    while blocks:
        block = blocks.pop()
        wave[:, samples - block.shape[1] : samples] = block
        samples -= block.shape[1]
    return wave


def _check_hole(seconds: Fraction, position: Fraction) -> None:
    if seconds > MAX_HOLE:
        raise MediaError(
            f"the sound has a hole of {float(seconds):,.0f} s after {float(position):.2f} s; holes of up to {MAX_HOLE} s are "
            "filled with silence. The file is damaged, or needs cutting first"
        )


def _check_length(samples: int, channels: int, rate: int) -> None:
    if samples * channels * 4 > MAX_SOUND_BYTES:
        raise MediaError(
            f"the sound is longer than {samples / rate / 60:.0f} minutes in {channels} channels, more than the "
            f"{MAX_SOUND_BYTES / 2**30:.0f} GiB that one sound may take; cut it first"
        )


def _decoded(frames: Iterator[_Timed], rate: int, mono: bool) -> Iterator[tuple[_Timed, np.ndarray]]:
    """Each frame with its samples as float32 [channels, n]."""
    import av

    resampler = av.AudioResampler(format="flt")
    layout: str | None = None
    for timed in frames:
        frame = timed.frame
        layout = layout or frame.layout.name
        if frame.sample_rate != rate or frame.layout.name != layout:
            given = f"{frame.sample_rate} Hz {frame.layout.name}"
            raise MediaError(f"the sound changes from {rate} Hz {layout} to {given} midway; convert it first")
        converted = [channels_first(part) for part in resampler.resample(frame)]
        if converted:
            block = np.concatenate(converted, axis=1)
            # NaN compares as false, so it does not pass either.
            if not (np.abs(block) <= HIGHEST_SAMPLE).all():
                raise MediaError(
                    "the sound holds samples that are not numbers (NaN, infinity, or far beyond full scale); nothing can be "
                    "made of it"
                )
            yield timed, block.mean(axis=0, keepdims=True) if mono else block
