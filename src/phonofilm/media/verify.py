"""Reading a file back right after writing it, before it gets its name. Measuring quality is the job of clip_checks.py."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from phonofilm.errors import MediaError
from phonofilm.media.opening import end_of, is_mp4_family, opened, picture_stream, sound_stream, start_of
from phonofilm.media.sound import read_sound

# Matroska counts in milliseconds.
_COARSE = Fraction(1, 1000)


@dataclass(frozen=True)
class Expected:
    """frames: how many (None for a copied track, whose packets are the source's); sound: (samples, rate) or None."""

    frames: int | None
    frame_rate: Fraction
    seconds: Fraction
    sound: tuple[int, int] | None


def verify_clip(written: Path, expected: Expected, name: Path) -> None:
    """Raises MediaError, naming the target, unless both tracks are there, start at 0 and are as long as they should be."""
    try:
        faults = _faults(written, expected)
    except MediaError as error:
        raise MediaError(f"cannot write {name}: it could not be read back ({error.__cause__ or error})") from error
    if faults:
        raise MediaError(f"cannot write {name}: the result is wrong ({'; '.join(faults)}); nothing was kept")


def _faults(written: Path, expected: Expected) -> list[str]:
    faults: list[str] = []
    with opened(written) as container:
        picture, sound = picture_stream(container), sound_stream(container)
        exact = is_mp4_family(container)
        if picture is None:
            return ["the picture is missing"]
        if (sound is None) != (expected.sound is None):
            return ["the sound is missing" if sound is None else "there is sound that should not be there"]
        if abs(start_of(picture)) > (0 if exact else _COARSE):
            faults.append(f"the picture starts at {float(start_of(picture)):.4f} s")
        end = end_of(picture)
        # A kept picture may end within a frame of ours: its own clock decides.
        slack = Fraction(0) if expected.frames is not None else 2 / expected.frame_rate
        if exact and (end is None or abs(end - expected.seconds) > slack):
            faults.append(f"the picture lasts {end} s instead of {expected.seconds} s")
        packets = sum(1 for packet in container.demux(picture) if packet.size)
        if expected.frames is not None and packets != expected.frames:
            faults.append(f"{packets} frames instead of {expected.frames}")
    if expected.sound is not None:
        samples, rate = expected.sound
        read = read_sound(written, origin=Fraction(0), seconds=None, mono=False)
        if read is None or read[1] != rate or read[0].shape[1] != samples:
            given = "no sound" if read is None else f"{read[0].shape[1]} samples at {read[1]} Hz"
            faults.append(f"{given} instead of {samples} at {rate} Hz")
    return faults
