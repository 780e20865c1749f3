"""Clips and files for the media tests, made with libav directly where they must not depend on our own writer."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from phonofilm.media import Clip

BEEP_SECONDS = 0.02


def flash_and_beep(
    num_frames: int = 25,
    rate: float | str | Fraction = 24,
    sampling_rate: int = 48000,
    at: Sequence[int] = (12,),
    side: int = 16,
    channels: int = 1,
) -> Clip:
    """Black frames with white ones at the numbers `at`, and a beep that begins on the sample of each."""
    silent = Clip(np.zeros((num_frames, side, side, 3), np.uint8), rate)
    silent.frames[list(at)] = 255
    wave = np.zeros((channels, int(sampling_rate * silent.seconds)), np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 1000 / sampling_rate * (np.arange(int(BEEP_SECONDS * sampling_rate)) + 0.25))
    for frame in at:
        first = round(frame / silent.frame_rate * sampling_rate)
        wave[:, first : first + len(tone)] = tone[: wave.shape[1] - first]
    return Clip(silent.frames, silent.frame_rate, wave, sampling_rate)


def flashes(frames: np.ndarray) -> list[int]:
    return np.flatnonzero(frames.mean(axis=(1, 2, 3)) > 128).tolist()


def beeps(wave: np.ndarray, sampling_rate: int) -> list[int]:
    """The sample at which each beep reaches a third of its height; silence between beeps is longer than one beep."""
    loud = np.flatnonzero(np.abs(wave[0]) > 0.15)
    return [int(s) for s in loud[np.diff(loud, prepend=-sampling_rate) > BEEP_SECONDS * sampling_rate / 2]]


def coloured_frames(num_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frame i is the grey 10 * i, with a red upper left and a blue lower right quarter."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames += (10 * np.arange(num_frames, dtype=np.uint8))[:, None, None, None]
    frames[:, : height // 2, : width // 2] = (255, 0, 0)
    frames[:, height // 2 :, width // 2 :] = (0, 0, 255)
    return frames


def write_frames_at(
    path: Path,
    frames: np.ndarray,
    times: Sequence[Fraction],
    *,
    codec: str = "libx264",
    pixel_aspect: Fraction | None = None,
    wave: np.ndarray | None = None,
    wave_start: Fraction = Fraction(0),
) -> Path:
    """A file whose frames are presented at given times (seconds), and whose 48 kHz mono sound starts at its own."""
    clock = Fraction(1, 90000)
    with av.open(str(path), "w") as output:
        options = {"crf": "1"} if codec == "libx264" else {}
        video = output.add_stream(codec, rate=24, options=options, width=frames.shape[2], height=frames.shape[1])
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = clock
        if pixel_aspect is not None:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        sound = None if wave is None else output.add_stream("aac", rate=48000, layout="mono")
        for pixels, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = round(time / clock)
            frame.time_base = clock
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound is not None and wave is not None:
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
            frame.pts = round(wave_start * 48000)
            output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return path


def write_sound(path: Path, wave: np.ndarray, rate: int, codec: str, sample_format: str = "fltp") -> Path:
    """[channels, n] in the codec's own sample type."""
    layout = {1: "mono", 2: "stereo"}[len(wave)]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        packed = wave if sample_format.endswith("p") else np.ascontiguousarray(wave.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format=sample_format, layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write x' = a x + c y, y' = b x + d y into the header of an mp4's first track, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    struct.pack_into(">9i", data, matrix, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def packets(path: Path, kind: str) -> list[bytes]:
    """The coded bytes of the first track of a kind ("audio" or "video")."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]
