"""What a clip loses on the way through files that the published lip-sync pipeline writes: MPEG-4, JPEG and MP3, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.media.pixels import to_plain_rgb
from phonofilm.media.waveform import audio_frames, channels_first

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

# libav counts quality in units of lambda; 118 of them are one step of -qscale.
_LAMBDA = 118
FINE_MPEG4 = ("mpeg4", {"flags": "+qscale", "global_quality": str(2 * _LAMBDA)})
FINE_JPEG = ("mjpeg", {"flags": "+qscale", "global_quality": str(2 * _LAMBDA)})
# What OpenCV's writer asks of XVID for 224 x 224 at 25 frames a second, and ffmpeg's own default for JPEG.
CROP_MPEG4 = ("mpeg4", {"b": str(25 * 224 * 224), "qmin": "3", "g": "12"})
DEFAULT_JPEG: tuple[str, dict[str, str]] = ("mjpeg", {})
MP3_BIT_RATE = 128_000


def through_codec(frames: NDArray[np.uint8], rate: int, codec: tuple[str, Mapping[str, str]]) -> NDArray[np.uint8]:
    """[n, h, w, 3] (RGB) encoded, 4:2:0, and decoded again."""
    import av
    from av.video.codeccontext import VideoCodecContext
    from av.video.reformatter import VideoReformatter

    name, options = codec
    # PyAV types what `create` returns as a context without pictures or sounds.
    encoder: Any = VideoCodecContext.create(name, "w")
    encoder.height, encoder.width = frames.shape[1:3]
    encoder.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(rate), Fraction(1, rate)
    encoder.options = dict(options)
    decoder: Any = VideoCodecContext.create(name, "r")
    if name == "mpeg4":
        encoder.open()
        decoder.extradata = encoder.extradata
    to_encoder, to_rgb = VideoReformatter(), VideoReformatter()
    done: list[NDArray[np.uint8]] = []
    for index in range(len(frames) + 1):
        frame = None
        if index < len(frames):
            frame = to_encoder.reformat(av.VideoFrame.from_ndarray(frames[index], "rgb24"), format=encoder.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, rate)
        packets = [*encoder.encode(frame)] if frame is not None else [*encoder.encode(None), None]
        for packet in packets:
            done += [to_plain_rgb(shown, to_rgb) for shown in decoder.decode(packet)]
    return np.stack(done)


def through_mp3(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """[channels, samples], one or two channels, encoded at 128 kbit/s and decoded again, without delay."""
    import av
    from av.audio.codeccontext import AudioCodecContext

    layout = "mono" if len(wave) == 1 else "stereo"
    encoder: Any = AudioCodecContext.create("libmp3lame", "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, layout, "fltp"
    encoder.bit_rate, encoder.time_base = MP3_BIT_RATE, Fraction(1, rate)
    encoder.open()
    decoder: Any = AudioCodecContext.create("mp3float", "r")
    shaper = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=encoder.frame_size)
    interleaver = av.AudioResampler(format="flt", layout=layout, rate=rate)
    done: list[NDArray[np.float32]] = []
    for block in [*audio_frames(np.clip(wave, -1, 1), rate, "flt", 1 << 16), None]:
        shaped = shaper.resample(block)
        for frame in [*shaped, None] if block is None else shaped:
            for packet in _packets(encoder, frame):
                done += [
                    channels_first(part) for shown in decoder.decode(packet) for part in interleaver.resample(shown)
                ]
    return np.concatenate(done, axis=1)[:, : wave.shape[1]]


def _packets(encoder: Any, frame: AudioFrame | None) -> list[Any]:
    packets = [*encoder.encode(frame)]
    return packets if frame is not None else [*packets, None]
