"""The kinds of file we write and what each can hold. Facts only; the writing is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from phonofilm.errors import InputError

SMALL_PIXELS = 256 * 256


@dataclass(frozen=True)
class Format:
    """A container with the codecs we encode into it and those it can take over unchanged.

    crf: default quality (lower is better), small_crf that of pictures of at most SMALL_PIXELS.
    worst_crf: the highest number the codec knows. kept_crf: quality for a given
    picture that has to be encoded after all.
    sampling_rates: what the sound codec accepts, best first. lossless_sound: codec for a given track, if there is one.
    """

    name: str
    video_codec: str
    crf: int
    small_crf: int
    worst_crf: int
    kept_crf: int
    video_options: dict[str, str] = field(hash=False)
    audio_codec: str
    sample_format: str
    sampling_rates: tuple[int, ...]
    lossless_sound: str | None
    keeps_video: frozenset[str]
    keeps_audio: frozenset[str]

    def default_crf(self, width: int, height: int) -> int:
        """Small pictures deserve more bits: an error of one pixel is more of them, and their files are small anyway."""
        return self.small_crf if width * height <= SMALL_PIXELS else self.crf


MP4 = Format(
    name="mp4",
    video_codec="libx264",
    crf=18,
    small_crf=12,
    worst_crf=51,
    kept_crf=10,
    # Without mbtree: x264's results with it differ from run to run on processors with AVX-512.
    video_options={"preset": "medium", "mbtree": "0"},
    audio_codec="aac",
    sample_format="fltp",
    sampling_rates=(48000, 44100, 96000, 88200, 64000, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
    lossless_sound="alac",
    keeps_video=frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"}),
    keeps_audio=frozenset({"aac", "mp3", "opus", "alac", "flac", "ac3", "eac3"}),
)
WEBM = Format(
    name="webm",
    video_codec="libvpx-vp9",
    crf=24,
    small_crf=16,
    worst_crf=63,
    kept_crf=16,
    # libvpx's "realtime" search: a quarter of the time of "good" for the same picture and a twentieth more bytes.
    video_options={"b": "0", "deadline": "realtime", "cpu-used": "5", "row-mt": "1"},
    audio_codec="libopus",
    sample_format="flt",
    sampling_rates=(48000,),
    lossless_sound=None,
    keeps_video=frozenset({"vp8", "vp9", "av1"}),
    keeps_audio=frozenset({"opus", "vorbis"}),
)
# Channel counts that each sound codec keeps in order.
CHANNELS = {"aac": range(1, 9), "libopus": (1, 2, 3, 6, 8), "alac": range(1, 7)}
CONTAINER_FORMATS = {".mp4": MP4, ".webm": WEBM}
GIF = ".gif"
FOLDER = ""


def kind_of(path: Path, text: str) -> str:
    """ ".mp4", ".webm", ".gif", or "" for a folder: an existing one, a name that ends with a slash or has no suffix."""
    if path.is_dir() or text.endswith(("/", "\\")) or not path.suffix:
        return FOLDER
    suffix = path.suffix.lower()
    if suffix not in (*CONTAINER_FORMATS, GIF):
        raise InputError(f"cannot write {path}: unknown kind {path.suffix}; use .mp4, .webm, .gif, or a folder name")
    return suffix
