"""Pictures, sounds and clips that are broken or made to harm, written by the tests themselves."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000


def png_of_size(path: Path, width: int, height: int) -> Path:
    """A valid PNG of that many black pixels, of a few hundred kilobytes at most."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    compressor = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    body = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def eps(path: Path, trace: Path) -> Path:
    """PostScript that, if anything ran it, would write `trace`."""
    program = f"({trace}) (w) file dup (ran) writestring closefile"
    path.write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n{program}\nshowpage\n%%EOF\n")
    return path


def wav(path: Path, wave: np.ndarray, rate: int = RATE) -> Path:
    """float32 [channels, n] as a wav of 32-bit floats, with whatever numbers and rate."""
    channels = len(wave)
    data = np.ascontiguousarray(wave.T, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, channels, rate, min(rate * channels * 4, 2**32 - 1), channels * 4, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


def sound_with_hole(path: Path, seconds: float) -> Path:
    """A second of sound, cut by a hole of `seconds` in its timestamps."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in (0, round(seconds * RATE)):
            frame = av.AudioFrame.from_ndarray(np.full((1, RATE // 2), 1000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def picture_at(path: Path, times: Sequence[float], side: int = 64, codec: str = "libx264") -> Path:
    """Grey frames at given times (seconds); whatever duration follows from the last is what the header claims."""
    clock = Fraction(1, 1000)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=24, width=side, height=side)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = clock
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), 10 * index % 255, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time / clock), clock
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path
