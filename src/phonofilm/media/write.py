"""Writing a clip: mp4, webm, gif or a frame folder, checked and then moved into place. Each format has its own file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from phonofilm.errors import InputError
from phonofilm.files import check_target, replacing
from phonofilm.media.clip import Clip, fit_length, picture_samples
from phonofilm.media.folder import SOUND_FILE, check_replaceable, write_folder
from phonofilm.media.formats import CONTAINER_FORMATS, FOLDER, GIF, kind_of
from phonofilm.media.gif import write_gif
from phonofilm.media.movie import write_movie
from phonofilm.media.opening import writing
from phonofilm.media.sound import read_audio
from phonofilm.media.verify import verify_clip
from phonofilm.media.waveform import for_file

logger = logging.getLogger(__name__)


class HoldsClips(Protocol):
    """What a pipeline returns: it can be turned into clips."""

    def clips(self) -> Sequence[Clip]:
        """The clips, in order."""


def save_clip(
    clip: Clip | HoldsClips,
    path: str | Path,
    *,
    overwrite: bool = True,
    crf: int | None = None,
    copy_audio_from: str | Path | None = None,
    copy_video_from: str | Path | None = None,
) -> Path:
    """Write a clip, or what a pipeline returned for one, and return its path.

    The name appears only once the whole file is written, checked and on disk.
    The suffix decides: .mp4 (H.264, AAC), .webm (VP9, Opus), .gif (no sound), no suffix or an existing folder (PNG
    frames, audio.wav, metadata.json). `crf` is the picture's quality (0 is best; default 18 for mp4, of 51, and 24 for
    webm, of 63; 12 and 16 up to 256x256 pixels). The same clip gives the same file, byte for byte, on one machine.
    `clip.metadata` is stored inside. The sound is cut or padded to exactly floor(rate * seconds) samples and
    turned down if it would clip.

    `copy_audio_from` / `copy_video_from`: a file whose track goes in instead of the clip's own, from its time 0 on and
    up to the clip's length: packet by packet where the container can hold the codec, else encoded anew (a wav's sound
    losslessly in mp4).

    Raises InputError for a request that cannot be met, MediaError when something cannot be written (nothing is left).
    """
    clip = _one_clip(clip)
    target = Path(path)
    kind = kind_of(target, str(path))
    check_target(target, overwrite)
    if kind in CONTAINER_FORMATS:
        fmt = CONTAINER_FORMATS[kind]
        if crf is not None and not 0 <= crf <= fmt.worst_crf:
            raise InputError(f"crf {crf} is outside 0 (best) to {fmt.worst_crf} (worst) for {fmt.name}")
        quality = fmt.default_crf(clip.width, clip.height) if crf is None else crf
        with replacing(target) as temporary, writing(target):
            expected = write_movie(clip, temporary, fmt, quality, _given(copy_audio_from), _given(copy_video_from))
            verify_clip(temporary, expected, target)
        return target
    if copy_video_from is not None:
        raise InputError(f"a given picture can be kept in .mp4 or .webm files, not in {target}")
    if kind == GIF:
        if clip.audio is not None or copy_audio_from is not None:
            logger.warning("%s has no sound: a gif cannot hold any; use .mp4 or .webm for both", target)
        with replacing(target) as temporary:
            write_gif(clip, temporary)
    elif kind == FOLDER:
        _save_folder(clip, target, _given(copy_audio_from))
    return target


def _save_folder(clip: Clip, target: Path, sound_from: Path | None) -> None:
    if target.is_dir():
        check_replaceable(target)
    elif target.exists():
        raise InputError(f"{target} is a file; choose another name for the folder")
    rate = clip.sampling_rate
    wave = None if rate is None else for_file(clip, rate)
    if sound_from is not None:
        wave, rate = read_audio(sound_from / SOUND_FILE if sound_from.is_dir() else sound_from)
        wave = fit_length(wave, picture_samples(clip.seconds, rate))
    with replacing(target) as temporary, writing(target):
        write_folder(clip, wave, rate, temporary)


def _one_clip(given: Clip | HoldsClips) -> Clip:
    if isinstance(given, Clip):
        return given
    if not callable(getattr(given, "clips", None)):
        raise InputError(f"clip is a {type(given).__name__}; expected a Clip, or what a pipeline returned")
    clips = given.clips()
    if len(clips) != 1:
        raise InputError(f"{len(clips)} clips were given, and one path; save each of .clips() under its own name")
    return clips[0]


def _given(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
