"""Taking a track of another file over unchanged: its packets are copied, only their timestamps move to our time 0."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from phonofilm.media.opening import is_mp4_family, picture_stream, sound_stream, start_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream


def copy_sound(source: InputContainer, output: OutputContainer, samples: int) -> Iterator[Packet[Any]]:
    """The sound's packets from the source's time 0 on; the last one's duration ends it after exactly `samples`."""
    stream = sound_stream(source)
    assert stream is not None
    origin = min(start_of(other) for other in [*source.streams.video, *source.streams.audio])
    target = output.add_stream_from_template(stream, opaque=True)
    return _sound_packets(source, stream, target, origin, samples)


def copy_picture(source: InputContainer, output: OutputContainer, seconds: Fraction) -> Iterator[Packet[Any]]:
    """The picture's packets from its first frame up to `seconds`.

    Frames later than that which earlier ones are predicted from stay in; `end_picture_at` (mp4) hides them.
    """
    stream = picture_stream(source)
    assert stream is not None
    target = output.add_stream_from_template(stream, opaque=True)
    if is_mp4_family(source):
        # hvc1 must stay hvc1: Apple's players refuse the tag that libav would choose.
        target.codec_context.codec_tag = stream.codec_context.codec_tag
    return _picture_packets(source, stream, target, start_of(stream), seconds)


def _sound_packets(
    source: InputContainer, stream: AudioStream, target: AudioStream, origin: Fraction, end: int
) -> Iterator[Packet[Any]]:
    """Packets timed in samples: one follows the other exactly, unless the source's timestamps show a real hole."""
    rate = stream.codec_context.sample_rate
    expected: int | None = None
    length = 0  # of a whole packet; one with discarded samples states less
    for packet in source.demux(stream):
        if packet.size == 0 or packet.pts is None or packet.time_base is None:
            continue
        rounding = math.ceil(packet.time_base * rate)
        start = round((packet.pts * packet.time_base - origin) * rate)
        if expected is None:
            expected = -_skipped(packet)[0]
        if abs(start - expected) <= rounding:
            start = expected
        if start >= end:
            return
        last = round((packet.duration or 0) * packet.time_base * rate)
        if not _skipped(packet)[1]:
            length = stream.codec_context.frame_size or last
        expected = start + length
        if expected > end:
            _discard_at_end(packet, expected - end)
        packet.time_base = Fraction(1, rate)
        packet.pts = packet.dts = start
        packet.duration = min(last, end - start)
        packet.stream = target
        yield packet


def _skipped(packet: Packet[Any]) -> tuple[int, int]:
    """The samples that the encoder added at the start and at the end of a packet, which no player shall present."""
    if not packet.has_sidedata("skip_samples"):
        return 0, 0
    return struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))


def _discard_at_end(packet: Packet[Any], samples: int) -> None:
    """Mark a packet's last samples as not to be presented; Matroska ends a track with this, mp4 with the duration."""
    from av.packet import PacketSideData, packet_sidedata_type_from_literal

    note = struct.pack("<IIBB", _skipped(packet)[0], samples, 0, 0)
    side_data = PacketSideData(packet_sidedata_type_from_literal("skip_samples"), len(note))  # type: ignore[call-arg]
    side_data.update(note)
    packet.set_sidedata(side_data)


def _picture_packets(
    source: InputContainer, stream: Stream, target: Stream, origin: Fraction, seconds: Fraction
) -> Iterator[Packet[Any]]:
    assert stream.time_base is not None
    shift = round(origin / stream.time_base)
    end = seconds / stream.time_base
    waiting: list[Packet[Any]] = []
    for packet in source.demux(stream):
        if packet.size == 0 or packet.pts is None or packet.dts is None:
            continue
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = target
        waiting.append(packet)
        if packet.pts < end:
            yield from waiting
            waiting.clear()
        elif packet.dts >= end:
            return
