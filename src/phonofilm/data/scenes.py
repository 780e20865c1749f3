"""Where a film's scenes begin (PySceneDetect) and where its sound pauses. What becomes of both is in split.py."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from phonofilm.data.cuts import SIDE
from phonofilm.data.flashes import without_flashes
from phonofilm.data.manifest import Item
from phonofilm.data.probe import Facts
from phonofilm.data.window_reading import separate_sound
from phonofilm.errors import MissingExtraError
from phonofilm.media.opening import opened, picture_stream
from phonofilm.media.sound import read_sound

Stretch = tuple[Fraction, Fraction]

DETECTOR_SIDE = 256  # pixels that the detector looks at
REST = Fraction(1, 4)  # seconds after a cut before another counts
SEEK_AHEAD = 2
LEVEL_SECONDS = 0.02
LEAST_RANGE = 12.0  # dB between loud and quiet; under it the sound never pauses
QUIET = 0.25  # of that range
PAUSE = 0.2  # seconds
BLOCK = Fraction(60)


@dataclass(frozen=True)
class SceneStarts:
    """Seconds, after the clip's first frame, at which a new scene begins; how many flashes were passed over."""

    times: tuple[Fraction, ...]
    flashes: int


def scene_starts(path: Path, facts: Facts, first: Fraction, last: Fraction, threshold: float) -> SceneStarts:
    """The frames between `first` and `last` at which a new scene begins.

    threshold: how many times a frame must differ more than those around it (PySceneDetect's adaptive detector).
    """
    try:
        from scenedetect import AdaptiveDetector, FrameTimecode
    except ImportError as error:
        raise MissingExtraError("scenedetect-headless", "data") from error

    from av.video.reformatter import VideoReformatter

    to_thumbnail, to_small = VideoReformatter(), VideoReformatter()  # one each: another size would set it up anew
    rest = max(1, round(REST * facts.rate))
    detector = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=rest)
    times: list[Fraction] = []
    found = []
    thumbnails = []
    scale = min(1.0, DETECTOR_SIDE / max(facts.height, facts.width))
    with opened(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        stream.thread_type = "AUTO"
        if first > SEEK_AHEAD and stream.time_base is not None:
            container.seek(int((facts.start + first) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            time = frame.pts * frame.time_base - facts.start
            if time >= last:
                break
            if time < first:
                continue
            times.append(time)
            thumbnails.append(to_thumbnail.reformat(frame, SIDE, SIDE, "gray", interpolation="AREA").to_ndarray())
            width, height = (max(8, round(side * scale)) for side in (frame.width, frame.height))
            small = to_small.reformat(frame, width, height, "bgr24")
            found += detector.process_frame(FrameTimecode(len(times) - 1, float(facts.rate)), small.to_ndarray())
        if times:
            found += detector.post_process(FrameTimecode(len(times) - 1, float(facts.rate)))
    proposed = sorted({cut.frame_num for cut in found if cut.frame_num > 0})
    cuts = without_flashes(np.asarray(thumbnails, np.uint8).reshape(-1, SIDE, SIDE), proposed, float(facts.rate))
    return SceneStarts(tuple(times[start] for start in cuts.starts), cuts.flashes)


def pauses(item: Item, facts: Facts, first: Fraction, last: Fraction) -> list[Stretch]:
    """Stretches (seconds after the first frame) of at least 0.2 s in which the sound is quiet for this item; no speech there.

    Judged by loudness: steady noise or music under a voice leaves no pauses. An item without sound is one long pause.
    """
    if not facts.has_sound and item.audio is None:
        return [(first, last)]
    levels = np.concatenate([_levels(item, facts, at, min(BLOCK, last - at)) for at in _blocks(first, last)])
    quiet, loud = np.quantile(levels, (0.05, 0.95))
    if loud - quiet < LEAST_RANGE:
        return []
    low = np.concatenate([[False], levels < quiet + QUIET * (loud - quiet), [False]])
    edges = np.flatnonzero(np.diff(low))
    step = Fraction(str(LEVEL_SECONDS))
    return [
        (first + int(a) * step, min(last, first + int(b) * step))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if (b - a) * LEVEL_SECONDS >= PAUSE
    ]


def _blocks(first: Fraction, last: Fraction) -> list[Fraction]:
    """A film's sound does not fit in memory; it is heard minute by minute."""
    count = max(1, -(-(last - first) // BLOCK))
    return [first + i * BLOCK for i in range(int(count))]


def _levels(item: Item, facts: Facts, start: Fraction, seconds: Fraction) -> np.ndarray:
    """dB of full scale in each 20 ms."""
    if item.audio is not None:
        wave, rate = separate_sound(item.audio, start, seconds)
    else:
        read = read_sound(item.file, origin=facts.start + start, seconds=seconds, mono=True)
        assert read is not None
        wave, rate = read
    count = max(1, round(float(seconds) / LEVEL_SECONDS))
    size = round(rate * LEVEL_SECONDS)
    padded = np.zeros(count * size)
    padded[: wave.shape[1]] = wave[0, : count * size]
    result: np.ndarray = 10 * np.log10(np.square(padded).reshape(count, size).mean(1) + 1e-9)
    return result
