"""Films of the embedded model in parts: is a join told from any other place in the film, and do picture and sound stay in sync?

    python -m recipes.nano.measuring.joins -o DIR --films 20

Every film is kept in DIR and not made again. A join is compared with every place of the same film that is farther than
`AWAY` frames from one, in four figures: how much the brightness and the picture change over it, how much the loudness does,
and how sharply the waveform bends (a click). Its rank is the share of other places with a smaller figure: half on average
where nothing is there to be seen or heard. Onsets are counted at joins and elsewhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phonofilm import Clip, load
from phonofilm.evaluation.sync import Matching, match, summarise
from phonofilm.files import replacing
from phonofilm.generation.session import Session
from phonofilm.media.onsets import onset_times
from phonofilm.nano.reading.frame_reader import read_frames
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, make_clip

AWAY = 4  # frames: the length of a fade
LOUDNESS_SECONDS = 0.1
CLICK_SECONDS = 0.02
SECONDS = 4.7
FIGURES = ("brightness", "picture", "loudness", "click")
Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Film:
    """A film as it is measured, and the frames at which its parts meet."""

    clip: Clip
    joins: tuple[int, ...]


def change_at_frames(clip: Clip) -> dict[str, Curve]:
    """Each figure at every frame from 1 on, against the frame before it: arrays [frames - 1]."""
    assert clip.audio is not None
    assert clip.sampling_rate is not None
    pixels, wave, rate = clip.frames.astype(np.float32), clip.audio[0].astype(np.float64), clip.sampling_rate
    bend = np.abs(np.diff(wave, 2, prepend=[wave[0]] * 2))
    span, reach = round(LOUDNESS_SECONDS * rate), round(CLICK_SECONDS * rate)
    samples = [round(frame / clip.frame_rate * rate) for frame in range(1, clip.num_frames)]
    return {
        "brightness": np.abs(np.diff(pixels.mean((1, 2, 3)))),
        "picture": np.abs(np.diff(pixels, axis=0)).mean((1, 2, 3)),
        "loudness": np.array([abs(_level(wave[s : s + span]) - _level(wave[max(0, s - span) : s])) for s in samples]),
        "click": np.array([bend[max(0, s - reach) : s + reach].max() for s in samples]),
    }


def ranks(film: Film) -> dict[str, list[float]]:
    """Of each join and figure, the share of places away from joins where it is smaller; ties count half."""
    places = [k for k in range(1, film.clip.num_frames) if all(abs(k - join) > AWAY for join in film.joins)]
    found: dict[str, list[float]] = {}
    for name, curve in change_at_frames(film.clip).items():
        others = curve[[k - 1 for k in places]]
        at = [curve[join - 1] for join in film.joins]
        found[name] = [float((others < one).mean() + (others == one).mean() / 2) for one in at]
    return found


def events_and_onsets(film: Film) -> tuple[Matching, list[float], list[float]]:
    """Picture and sound matched over the whole film, its visible events and its onsets in seconds."""
    assert film.clip.audio is not None
    assert film.clip.sampling_rate is not None
    events = read_frames(film.clip.frames, film.clip.frame_rate).events
    onsets = [float(t) for t in onset_times(film.clip.audio, film.clip.sampling_rate)]
    return match(events, onsets), list(events), onsets


def report(films: Sequence[Film]) -> dict[str, object]:
    """All figures over all films: see the module."""
    ranked = [ranks(film) for film in films]
    frame = float(1 / films[0].clip.frame_rate)
    matched = [events_and_onsets(film) for film in films]
    joins = [join for film in films for join in film.joins]
    near = sum(
        abs(onset - join * frame) <= frame
        for film, (_, _, onsets) in zip(films, matched, strict=True)
        for join in film.joins
        for onset in onsets
    )
    seconds = sum(float(film.clip.seconds) for film in films)
    heard = sum(len(onsets) for _, _, onsets in matched)
    per_figure = {
        name: {
            "mean rank": _rounded(np.mean([r for one in ranked for r in one[name]])),
            "above 95 of 100 places": _rounded(np.mean([r > 0.95 for one in ranked for r in one[name]])),
        }
        for name in FIGURES
    }
    first = [Film(_beginning(film), ()) for film in films]
    whole, alone = (summarise([events_and_onsets(one)[0] for one in some], frame) for some in (films, first))
    return {
        "films": len(films),
        "joins": len(joins),
        **per_figure,
        "onsets within a frame of a join, each": _rounded(near / len(joins)),
        "onsets in as much of the rest, each": _rounded(heard / seconds * 2 * frame),
        "events within one frame, films": _rounded(whole.within),
        "events, films": whole.events,
        "events within one frame, first parts": _rounded(alone.within),
        "events, first parts": alone.events,
    }


def make_films(session: Session, folder: Path, count: int) -> list[Film]:
    """Films of held-out captions and first frames, the scenes in turn; those in `folder` are read."""
    films = []
    for index in range(count):
        world = make_clip(HELD_OUT_SEED + index, scene=tuple(SCENES)[index % len(SCENES)])
        image = Image.fromarray(world.frames[0])
        plan = session.plan(world.caption, image=image, seconds=SECONDS, seed=index)
        sizes = [part.plan.sampling.task.geometry.num_frames for part in plan.parts]
        shared = plan.inputs.tracks.overlap_frames
        joins = np.cumsum([sizes[0], *(size - shared for size in sizes[1:-1])])
        file = folder / f"{index}.npz"
        if not file.exists():
            clip = session.generate(world.caption, image=image, seconds=SECONDS, seed=index)
            assert clip.audio is not None
            with replacing(file) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, frames=clip.frames, audio=clip.audio)
        with np.load(file) as kept:
            geometry = plan.sampling.task.geometry
            clip = Clip(kept["frames"], geometry.frame_rate, kept["audio"], geometry.sampling_rate)
        films.append(Film(clip, tuple(int(join) for join in joins)))
    return films


def main() -> None:
    """Make the films and write DIR/joins.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--films", type=int, default=20)
    arguments = parser.parse_args()
    with load("nano", device="cpu") as session:
        films = make_films(session, arguments.output, arguments.films)
    found = json.dumps(report(films), indent=2)
    with replacing(arguments.output / "joins.json") as temporary:
        temporary.write_text(found, encoding="utf-8")


def _beginning(film: Film) -> Clip:
    """The first part alone, less what fades into the next."""
    assert film.clip.audio is not None
    assert film.clip.sampling_rate is not None
    frames = film.joins[0] - AWAY
    samples = round(frames / film.clip.frame_rate * film.clip.sampling_rate)
    return Clip(film.clip.frames[:frames], film.clip.frame_rate, film.clip.audio[:, :samples], film.clip.sampling_rate)


def _level(wave: Curve) -> float:
    """Decibels of full scale, not below -60."""
    return float(20 * np.log10(max(1e-3, float(np.sqrt((wave**2).mean())))))


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    main()
