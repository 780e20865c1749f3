"""What is read: kinds of picture, container and codec, and the sizes beyond which a file is not meant. Facts only.

Left out on purpose: everything that names other files or addresses (playlists, ffconcat, image sequences), runs another
program (EPS) or is so rare that its decoder is mostly met in attacks.
"""

from __future__ import annotations

from fractions import Fraction

from phonofilm.errors import MediaError
from phonofilm.media.clip import MAX_CHANNELS

# Pillow's names. A camera of 61 megapixels is read; one of 100 is not.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_IMAGE_PIXELS = 64_000_000
# libav's names of demuxers; of those with several, one is enough.
DEMUXERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "gif", "h264", "hevc"),
    *("wav", "w64", "aiff", "au", "caf", "flac", "ogg", "mp3", "aac", "ac3", "eac3"),
)
_PICTURE = frozenset(
    {
        *("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "dnxhd", "gif"),
        *("ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "qtrle", "theora", "h263", "flv1"),
        *("wmv1", "wmv2", "wmv3", "vc1", "msmpeg4v2", "msmpeg4v3"),
    }
)
_SOUND = frozenset(
    {
        *("aac", "mp3", "mp2", "opus", "vorbis", "flac", "alac", "ac3", "eac3", "wmav1", "wmav2"),
        *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "amrnb", "amr_nb", "amr_wb"),
        *("pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw"),
        *(f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")),
    }
)
# Decoders that carry another name than what they decode, which libav's own whitelist goes by.
_DECODERS = frozenset({"libdav1d", "libvpx", "libvpx-vp9", "libopus", "libvorbis", "mp3float", "mp2float", "amrwb"})
CODECS = _PICTURE | _SOUND | _DECODERS
MAX_STREAMS = 64
# 4096 x 4096. A decoder keeps up to 16 pictures.
MAX_VIDEO_PIXELS = 2**24
# A still that lasts longer, and silence that fills a longer hole, are damage or an attack, not a recording.
MAX_HOLE = Fraction(300)
# Repeats of one picture that filling holes may cost, and samples that one sound may have in memory.
MAX_REPEATED_BYTES = 2**30
MAX_SOUND_BYTES = 2**30
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
# Float samples go to 1; what exceeds full scale by more than this are no samples of a sound.
HIGHEST_SAMPLE = 2.0**31


def check_rate(sampling_rate: int, channels: int) -> None:
    """Raises MediaError for a sampling rate or a number of channels that no recording has."""
    if not LOWEST_RATE <= sampling_rate <= HIGHEST_RATE:
        raise MediaError(
            f"the sound has {sampling_rate:,} samples per second; expected {LOWEST_RATE:,} to {HIGHEST_RATE:,}, usually 48,000"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise MediaError(f"the sound has {channels} channels; 1 to {MAX_CHANNELS} are read: mix it down first")
