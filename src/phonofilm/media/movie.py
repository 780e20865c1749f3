"""One mp4 or webm file from a clip: choosing what each track is made of, and muxing them."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.media.boxes import end_picture_at
from phonofilm.media.clip import Clip, picture_samples
from phonofilm.media.folder import SOUND_FILE
from phonofilm.media.formats import MP4, Format
from phonofilm.media.keep import copy_picture, copy_sound
from phonofilm.media.metadata import tags
from phonofilm.media.opening import opened, picture_stream, sound_stream, url
from phonofilm.media.picture import read_picture
from phonofilm.media.sound import read_audio
from phonofilm.media.tracks import encode_picture, encode_sound
from phonofilm.media.verify import Expected
from phonofilm.media.waveform import for_file, resample, within_full_scale
from phonofilm.media.window import Window
from phonofilm.notices import NOTICE

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

logger = logging.getLogger(__name__)

_MAX_TIMESCALE = 2**31 - 1

Add = Callable[["OutputContainer"], Iterator["Packet[Any]"]]


@dataclass(frozen=True)
class _Sound:
    """What the file's sound will be: samples at rate, and how to add its stream and get its packets."""

    samples: int
    rate: int
    add: Add


def write_movie(
    clip: Clip, path: Path, fmt: Format, crf: int, sound_from: Path | None, picture_from: Path | None
) -> Expected:
    """Write the file at `path` (a temporary name); returns what must be found in it.

    `sound_from`, `picture_from`: files whose track takes the place of the clip's own. Raises InputError for odd sides or a
    given file without the track, MediaError when a track cannot be encoded.
    """
    import av

    with ExitStack() as stack:
        sound = _clip_sound(clip, fmt) if sound_from is None else _given_sound(clip, fmt, sound_from, stack)
        kept = None if picture_from is None else _kept_picture(clip, fmt, picture_from, stack)
        picture = kept or _encoded_picture(clip, fmt, crf, picture_from)
        output = stack.enter_context(av.open(url(path), "w", format=fmt.name, options=_options(clip, fmt, sound)))
        output.metadata.update(tags(clip.metadata))
        tracks = [picture(output)] + ([] if sound is None else [sound.add(output)])
        for packet in heapq.merge(*tracks, key=_decode_time):
            output.mux(packet)
        # Closed here and not by the stack, whose inputs it must outlive: closing writes the index.
        output.close()
    if kept is not None and fmt is MP4:
        end_picture_at(path, clip.seconds)
    frames = clip.num_frames if kept is None else None
    length = None if sound is None else (sound.samples, sound.rate)
    return Expected(frames, clip.frame_rate, clip.seconds, length)


def _clip_sound(clip: Clip, fmt: Format) -> _Sound | None:
    if clip.sampling_rate is None:
        return None
    rate = _file_rate(clip.sampling_rate, fmt)
    wave = for_file(clip, rate)
    assert wave is not None
    return _encoded_sound(wave, rate, fmt.audio_codec, fmt.sample_format)


def _given_sound(clip: Clip, fmt: Format, given: Path, stack: ExitStack) -> _Sound:
    """The given file's own packets where the container can hold them, else its samples encoded as well as it can."""
    given = given / SOUND_FILE if given.is_dir() else given
    source = stack.enter_context(opened(given))
    stream = sound_stream(source)
    if stream is None:
        raise InputError(f"{given} has no sound to keep")
    codec = stream.codec_context.codec.canonical_name
    wave, rate = read_audio(given)
    samples = min(wave.shape[1], picture_samples(clip.seconds, rate))
    if codec in fmt.keeps_audio:
        return _Sound(samples, rate, partial(copy_sound, source, samples=samples))
    if fmt.lossless_sound is not None:
        depth = "s16p" if stream.codec_context.format.bytes <= 2 else "s32p"
        return _encoded_sound(within_full_scale(wave[:, :samples]), rate, fmt.lossless_sound, depth)
    logger.warning("%s cannot hold %s sound; the sound of %s is encoded anew", fmt.name, codec, given)
    target = _file_rate(rate, fmt)
    wave = resample(wave, rate, target)[:, : picture_samples(clip.seconds, target)]
    return _encoded_sound(within_full_scale(wave), target, fmt.audio_codec, fmt.sample_format)


def _encoded_sound(wave: np.ndarray, rate: int, codec: str, sample_format: str) -> _Sound:
    add = partial(encode_sound, wave=wave, rate=rate, codec=codec, sample_format=sample_format)
    return _Sound(wave.shape[1], rate, add)


def _kept_picture(clip: Clip, fmt: Format, given: Path, stack: ExitStack) -> Add | None:
    """The given file's own packets, or None where they cannot be taken over and the picture is encoded anew."""
    reason = why_encoded(given, fmt, clip.frame_rate)
    if reason is None:
        return partial(copy_picture, stack.enter_context(opened(given)), seconds=clip.seconds)
    logger.warning("%s; the picture of %s is encoded anew", reason, given)
    return None


def why_encoded(given: Path, fmt: Format, rate: Fraction) -> str | None:
    """Why the packets of a given picture cannot go into a file of `rate` frames per second, or None when they can."""
    if given.is_dir():
        return "a folder of frames has no packets to keep"
    with opened(given) as source:
        stream = picture_stream(source)
        if stream is None:
            raise InputError(f"{given} has no picture to keep")
        codec = stream.codec_context.codec.canonical_name
        if codec not in fmt.keeps_video:
            return f"{fmt.name} cannot hold {codec} video"
        times = sorted(
            p.pts * p.time_base for p in source.demux(stream) if p.size and p.pts is not None and p.time_base
        )
    uneven = max((abs(time - times[0] - index / rate) for index, time in enumerate(times)), default=Fraction(0))
    return f"its frames are unevenly timed, by up to {float(uneven):.2f} s" if uneven > 2 / rate else None


def _encoded_picture(clip: Clip, fmt: Format, crf: int, given: Path | None) -> Add:
    frames = clip.frames
    if given is not None and not given.is_dir():
        frames = read_picture(given, Window(end=clip.seconds, frame_rate=clip.frame_rate)).frames
        crf = min(crf, fmt.kept_crf)
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise InputError(
            f"{fmt.name} video needs even sides, and the frames are {width}x{height}; "
            f"crop them to {width - width % 2}x{height - height % 2}, or save a folder of frames"
        )
    return partial(encode_picture, frames=frames, frame_rate=clip.frame_rate, fmt=fmt, crf=crf)


def _file_rate(rate: int, fmt: Format) -> int:
    """The clip's own rate where the codec accepts it, else its best one."""
    if rate in fmt.sampling_rates:
        return rate
    target = fmt.sampling_rates[0]
    logger.log(NOTICE, "%s does not accept %d Hz; the sound is resampled to %d Hz", fmt.audio_codec, rate, target)
    return target


def _options(clip: Clip, fmt: Format, sound: _Sound | None) -> dict[str, str]:
    """mp4: the index first, and a movie clock in which both tracks' lengths are whole numbers, so edit lists are exact.

    Always: nothing in the file that changes from run to run (Matroska would number each file at random).
    """
    exact = {"fflags": "+bitexact"}
    if fmt is not MP4:
        return exact
    rate = 1 if sound is None else sound.rate
    common = math.lcm(clip.frame_rate.numerator, rate)
    return exact | {"movflags": "faststart", "movie_timescale": str(common if common <= _MAX_TIMESCALE else rate)}


def _decode_time(packet: Packet[Any]) -> Fraction:
    if packet.dts is None or packet.time_base is None:
        raise MediaError("an encoder made a packet without a timestamp")
    return packet.dts * packet.time_base
