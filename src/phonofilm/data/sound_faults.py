"""What the doctor hears in a sound file: silence, clipping, dead and doubled channels, drift, holes. No picture here."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from phonofilm.media.clip_checks import SoundReport
from phonofilm.media.opening import opened, sound_stream
from phonofilm.media.sound import read_sound

MOSTLY_SILENT, SILENT = 0.8, 0.99
CLIPPED, BADLY_CLIPPED = 1e-4, 1e-2
SAME = 1e-3  # of the louder channel's power: what lossy coding leaves between two equal channels
CLOCK_SLACK = 0.02  # seconds

# How far two clocks run apart when film, PAL and NTSC rates are taken for each other.
WRONG_CLOCKS = tuple(
    Fraction(a) / Fraction(b)
    for a, b in ((25, 24), (24, 25), (30, 24), (24, 30), (30, 25), (25, 30), (1001, 1000), (1000, 1001))
)


@dataclass(frozen=True)
class Trouble:
    """A finding before it is tied to a clip."""

    severe: bool
    kind: str
    message: str
    value: float | None = None


def sound_troubles(path: Path, report: SoundReport) -> list[Trouble]:
    """What is wrong with the sound of one file, of which `report` is the measurement."""
    if report.silence_ratio > SILENT:
        return [Trouble(True, "silence", f"the sound is silent ({report.silence_ratio:.0%})", report.silence_ratio)]
    found = []
    if report.silence_ratio > MOSTLY_SILENT:
        found.append(Trouble(False, "silence", f"{report.silence_ratio:.0%} of it is silent", report.silence_ratio))
    if report.clipped_ratio > CLIPPED:
        severe = report.clipped_ratio > BADLY_CLIPPED
        message = f"clipped: {report.clipped_ratio:.2%} of the samples are at full scale"
        found.append(Trouble(severe, "clipping", message, report.clipped_ratio))
    if report.dead_channels:
        names = ", ".join(str(channel) for channel in report.dead_channels)
        message = f"channel {names} is dead; mixed down, the sound is quieter by that share"
        found.append(Trouble(False, "dead_channel", message, float(len(report.dead_channels))))
    elif report.channels == 2:
        found += _doubled(path)
    return found + _clock(path)


def drift_trouble(
    picture: Fraction, sound: Fraction, frame_rate: Fraction, gap: Fraction = Fraction(0)
) -> Trouble | None:
    """Whether two lengths (seconds) differ as they do when one track was played at another's frame rate.

    gap: when the sound begins, after the picture does. Tracks that end together, or are equally long, do not drift: they only
    begin apart.
    """
    apart = gap + sound - picture
    if abs(apart) <= 2 / frame_rate:
        return None
    if abs(gap) > 1 / frame_rate and abs(sound - picture) <= 2 / frame_rate:
        return None
    for ratio in WRONG_CLOCKS:
        if abs(sound - picture * ratio) < CLOCK_SLACK + 1e-3:
            message = (
                f"the sound lasts {float(ratio):.4g} times as long as the picture ({float(sound):.2f} s, "
                f"{float(picture):.2f} s): one of them runs at a wrong rate, and they drift apart"
            )
            return Trouble(True, "drift", message, float(apart))
    if apart < 0:
        return Trouble(False, "sound_short", f"the sound ends {-float(apart):.2f} s before the picture", float(apart))
    return None


def _doubled(path: Path) -> list[Trouble]:
    """Two channels that are one sound, or one sound and its opposite, which mixing down cancels."""
    read = read_sound(path, origin=Fraction(0), seconds=None, mono=False)
    assert read is not None
    wave, _ = read
    power = float(np.square(wave, dtype=np.float64).sum(1).max())
    left, right = wave[0].astype(np.float64), wave[1].astype(np.float64)
    if np.square(left - right).sum() < SAME * power:
        return [Trouble(False, "dual_mono", "both channels are the same; nothing is lost, but it is no stereo sound")]
    if np.square(left + right).sum() < SAME * power:
        return [Trouble(True, "opposite_channels", "one channel is the other upside down; mixed down it is silence")]
    return []


def _clock(path: Path) -> list[Trouble]:
    """Timestamps against samples: they part in recordings with a wrong sampling rate, or with pieces missing."""
    samples, rate, first, last = 0, 1, None, Fraction(0)
    with opened(path) as container:
        stream = sound_stream(container)
        assert stream is not None
        for frame in container.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            last, rate = frame.pts * frame.time_base, frame.sample_rate
            first = last if first is None else first
            end = samples
            samples += frame.samples
    if first is None:
        return []
    apart = float(last - first - Fraction(end, rate))
    if abs(apart) <= CLOCK_SLACK:
        return []
    message = (
        f"the sound's timestamps and its samples are {apart * 1000:+.0f} ms apart at the end: it drifts or has holes"
    )
    return [Trouble(True, "drift", message, apart)]
