"""What kind of file an upload is, by its first bytes. Names and content types that clients send count for nothing.

This only keeps out what can never be meant; the decoders, in the worker, have whitelists and limits of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from phonofilm.errors import InputError

SNIFFED_BYTES = 512
IMAGE: Literal["image"] = "image"
VIDEO: Literal["video"] = "video"
AUDIO: Literal["audio"] = "audio"
# What files begin with, as regular expressions in which a dot is any byte. web/src/lib/kinds.ts has the same; a test compares.
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x89PNG\r\n\x1a\n", IMAGE, ".png"),
    (rb"\xff\xd8\xff", IMAGE, ".jpg"),
    (rb"GIF8[79]a", IMAGE, ".gif"),
    (rb"BM", IMAGE, ".bmp"),
    (rb"II\*\x00", IMAGE, ".tif"),
    (rb"MM\x00\*", IMAGE, ".tif"),
    (rb"RIFF.{4}WEBP", IMAGE, ".webp"),
    (rb"\x1aE\xdf\xa3", VIDEO, ".mkv"),
    (rb"FLV\x01", VIDEO, ".flv"),
    (rb"\x00\x00\x01\xba", VIDEO, ".mpg"),
    (rb"RIFF.{4}AVI ", VIDEO, ".avi"),
    (rb"fLaC", AUDIO, ".flac"),
    (rb"OggS", AUDIO, ".ogg"),
    (rb"ID3", AUDIO, ".mp3"),
    (rb"caff", AUDIO, ".caf"),
    (rb"\xff[\xfb\xf3\xf2]", AUDIO, ".mp3"),
    (rb"(?:RIFF|RF64).{4}WAVE", AUDIO, ".wav"),
    (rb"FORM.{4}AIF[FC]", AUDIO, ".aiff"),
    (rb".{4}ftypM4A", AUDIO, ".m4a"),
    (rb".{4}ftyp(?!avif|avis|heic|heix|mif1)", VIDEO, ".mp4"),
    (rb"G.{187}G", VIDEO, ".ts"),
)
TAKEN = {
    IMAGE: "a PNG, JPEG, WebP, GIF, BMP or TIFF picture",
    VIDEO: "an MP4, MOV, WebM, MKV, AVI, TS or FLV film",
    AUDIO: "a WAV, FLAC, MP3, OGG, AIFF, CAF or M4A sound",
}


@dataclass(frozen=True)
class MediaKind:
    """image, video or audio, and the suffix that such files have."""

    kind: str
    suffix: str


def sniff(head: bytes) -> MediaKind | None:
    """The kind of a file that begins with these bytes, or None for anything that is not read here."""
    for beginning, kind, suffix in BEGINNINGS:
        if re.match(beginning, head, re.DOTALL):
            return MediaKind(kind, suffix)
    return None


def check_kind(head: bytes, wanted: str, field: str) -> MediaKind:
    """The upload's kind. Raises InputError unless it can be what the field takes."""
    if not head:
        raise InputError(f"{field} is an empty file")
    found = sniff(head)
    # A clip's container may hold sound alone, and a moving GIF is a picture track.
    if found is not None and (
        found.kind == wanted
        or (wanted == AUDIO and found.kind == VIDEO)
        or (wanted == VIDEO and found.suffix == ".gif")
    ):
        return found
    what = "of a kind that is not read" if found is None else f"{found.kind} ({found.suffix[1:]})"
    raise InputError(f"{field} is {what}; expected {TAKEN[wanted]}")
