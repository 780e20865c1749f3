"""Encoding frames and waveforms into the packets of a container. Each function adds its stream and returns its packets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from phonofilm.errors import InputError
from phonofilm.media.formats import CHANNELS, Format
from phonofilm.media.waveform import LAYOUTS, audio_frames

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

SOUND_BITRATE = 192_000
# The most that AAC allows: 6144 bits per channel in a frame of 1024 samples.
_AAC_BITS_PER_SAMPLE = 6
_BLOCK = 1024


def encode_picture(
    output: OutputContainer, frames: np.ndarray, frame_rate: Fraction, fmt: Format, crf: int
) -> Iterator[Packet[Any]]:
    """uint8 frames [f, h, w, 3] (even sides) as 4:2:0 BT.709 video, frame i at exactly i / frame_rate."""
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    _, height, width, _ = frames.shape
    options = {**fmt.video_options, "crf": str(crf)}
    added = output.add_stream(fmt.video_codec, rate=frame_rate, options=options, width=width, height=height)
    stream = cast("VideoStream", added)
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.color_range = ColorRange.MPEG
    return _picture_packets(stream, frames, frame_rate)


def encode_sound(
    output: OutputContainer, wave: np.ndarray, rate: int, codec: str, sample_format: str
) -> Iterator[Packet[Any]]:
    """A float waveform [channels, n] at a rate the codec accepts; the last packet's duration ends it exactly at n."""
    if len(wave) not in CHANNELS[codec]:
        accepted = ", ".join(map(str, CHANNELS[codec]))
        raise InputError(f"{codec} sound can have {accepted} channels, and the clip has {len(wave)}; mix it down first")
    # At our bitrates libav's "fast" search is its best one: it spends the bits, and from the first frame on. Noise
    # substitution would replace the waveform by another that sounds alike.
    options = {"aac_coder": "fast", "aac_pns": "0"} if codec == "aac" else {}
    added = output.add_stream(codec, rate=rate, options=options, layout=LAYOUTS[len(wave) - 1])
    stream = cast("AudioStream", added)
    stream.format = sample_format
    if codec != "alac":
        stream.bit_rate = min(SOUND_BITRATE * max(1, len(wave) // 2), _AAC_BITS_PER_SAMPLE * rate * len(wave))
    return _sound_packets(stream, wave, rate, sample_format)


def _picture_packets(stream: VideoStream, frames: np.ndarray, frame_rate: Fraction) -> Iterator[Packet[Any]]:
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    for index, pixels in enumerate(frames):
        for packet in stream.encode(_to_yuv(pixels, index, frame_rate, reformatter)):
            yield _lasting(packet, 1 / frame_rate)
    for packet in stream.encode(None):
        yield _lasting(packet, 1 / frame_rate)


def _sound_packets(stream: AudioStream, wave: np.ndarray, rate: int, sample_format: str) -> Iterator[Packet[Any]]:
    for frame in audio_frames(wave, rate, sample_format.removesuffix("p"), _BLOCK):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _to_yuv(pixels: np.ndarray, index: int, frame_rate: Fraction, reformatter: VideoReformatter) -> VideoFrame:
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    frame = reformatter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND,
    )
    frame.pts = index
    frame.time_base = 1 / frame_rate
    return frame


def _lasting(packet: Packet[Any], seconds: Fraction) -> Packet[Any]:
    assert packet.time_base is not None
    packet.duration = round(seconds / packet.time_base)
    return packet
