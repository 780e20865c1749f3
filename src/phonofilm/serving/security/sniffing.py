"""What kind of file an upload is, by its first bytes. Names and content types that clients send count for nothing.

This only keeps out what can never be meant; the decoders, in the worker, have whitelists and limits of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phonofilm.errors import InputError

SNIFFED_BYTES = 512
IMAGE: Literal["image"] = "image"
VIDEO: Literal["video"] = "video"
AUDIO: Literal["audio"] = "audio"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", IMAGE, ".png"),
    (b"\xff\xd8\xff", IMAGE, ".jpg"),
    (b"GIF87a", IMAGE, ".gif"),
    (b"GIF89a", IMAGE, ".gif"),
    (b"BM", IMAGE, ".bmp"),
    (b"II*\x00", IMAGE, ".tif"),
    (b"MM\x00*", IMAGE, ".tif"),
    (b"\x1aE\xdf\xa3", VIDEO, ".mkv"),
    (b"FLV\x01", VIDEO, ".flv"),
    (b"\x00\x00\x01\xba", VIDEO, ".mpg"),
    (b"fLaC", AUDIO, ".flac"),
    (b"OggS", AUDIO, ".ogg"),
    (b"ID3", AUDIO, ".mp3"),
    (b"caff", AUDIO, ".caf"),
    (b"\xff\xfb", AUDIO, ".mp3"),
    (b"\xff\xf3", AUDIO, ".mp3"),
    (b"\xff\xf2", AUDIO, ".mp3"),
)
_RIFF = {b"WEBP": (IMAGE, ".webp"), b"WAVE": (AUDIO, ".wav"), b"AVI ": (VIDEO, ".avi")}
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1")
# A clip's container may hold sound alone, and a moving GIF is a picture track.
_FITS = {
    IMAGE: "a PNG, JPEG, WebP, BMP, TIFF or GIF picture",
    VIDEO: "an mp4, mov, webm, mkv, avi, ts or flv clip",
    AUDIO: "a wav, flac, mp3, ogg, aiff, caf or m4a sound",
}


@dataclass(frozen=True)
class MediaKind:
    """image, video or audio, and the suffix that such files have."""

    kind: str
    suffix: str


def sniff(head: bytes) -> MediaKind | None:
    """The kind of a file that begins with these bytes, or None for anything that is not read here."""
    for start, kind, suffix in _STARTS:
        if head.startswith(start):
            return MediaKind(kind, suffix)
    if head.startswith((b"RIFF", b"RF64")) and head[8:12] in _RIFF:
        return MediaKind(*_RIFF[head[8:12]])
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return MediaKind(AUDIO, ".aiff")
    if head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS:
        return MediaKind(AUDIO, ".m4a") if head[8:11] == b"M4A" else MediaKind(VIDEO, ".mp4")
    if len(head) > 188 and head[0] == head[188] == 0x47:
        return MediaKind(VIDEO, ".ts")
    return None


def check_kind(head: bytes, wanted: str, field: str) -> MediaKind:
    """The upload's kind. Raises InputError unless it can be what the field takes."""
    if not head:
        raise InputError(f"{field} is an empty file")
    found = sniff(head)
    if found is not None and (
        found.kind == wanted
        or (wanted == AUDIO and found.kind == VIDEO)
        or (wanted == VIDEO and found.suffix == ".gif")
    ):
        return found
    what = "of a kind that is not read" if found is None else f"{found.kind} ({found.suffix[1:]})"
    raise InputError(f"{field} is {what}; expected {_FITS[wanted]}")
