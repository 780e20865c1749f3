"""Films of the embedded model in parts: is a join told from any other place in the film, and do picture and sound stay in sync?

    python -m recipes.nano.measuring.joins -o DIR --clips 20

Held-out captions and first frames, the scenes in turn, each once as a film of 4.7 s in three parts and once as a single clip of
the model's own length. A join is compared with every place of the same film that is farther than `AWAY` frames from one, in four
figures: how much the brightness and the picture change over it, how much the loudness does, and how sharply the waveform bends (a
click). Its rank is the share of other places with a smaller figure: half on average where nothing is there to be seen or heard.
Onsets are counted at joins and elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phonofilm import Clip
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, make_clip
from recipes.nano.measuring.session_clips import (
    Figures,
    Request,
    SessionClips,
    first_frame,
    matched,
    onsets,
    run,
    sound,
    sync_figures,
)

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
    pixels, (audio, rate) = clip.frames.astype(np.float32), sound(clip)
    wave = audio[0].astype(np.float64)
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


def measure(clips: SessionClips, count: int) -> Figures:
    scenes = tuple(SCENES)
    worlds = [make_clip(HELD_OUT_SEED + index, scene=scenes[index % len(scenes)]) for index in range(count)]
    single = [Request(world.caption, index, first_frame(world)) for index, world in enumerate(worlds)]
    asked = [replace(request, seconds=SECONDS) for request in single]
    joins = [_joins(clips.plan(request)) for request in asked]
    films = [Film(clip, at) for clip, at in zip(clips.make("films", asked), joins, strict=True)]
    return report(films, clips.make("single clips", single))


def report(films: Sequence[Film], single: Sequence[Clip]) -> Figures:
    """All figures over all films: see the module."""
    ranked = [ranks(film) for film in films]
    frame = float(1 / films[0].clip.frame_rate)
    joins = sum(len(film.joins) for film in films)
    heard_in = [onsets(film.clip) for film in films]
    near = sum(
        abs(onset - join * frame) <= frame
        for film, heard in zip(films, heard_in, strict=True)
        for join in film.joins
        for onset in heard
    )
    seconds = sum(float(film.clip.seconds) for film in films)
    per_figure = {
        name: {
            "mean rank": _rounded(np.mean([r for one in ranked for r in one[name]])),
            "above 95 of 100 places": _rounded(np.mean([r > 0.95 for one in ranked for r in one[name]])),
        }
        for name in FIGURES
    }
    return {
        "joins": joins,
        **per_figure,
        "onsets within a frame of a join, each": _rounded(near / joins),
        "onsets in as much of the rest, each": _rounded(sum(map(len, heard_in)) / seconds * 2 * frame),
        "sync of films": sync_figures([matched(film.clip) for film in films], frame),
        "sync of single clips": sync_figures([matched(clip) for clip in single], frame),
    }


def _joins(plan: ClipPlan) -> tuple[int, ...]:
    """The frames at which the parts of a film meet."""
    sizes = [part.plan.sampling.task.geometry.num_frames for part in plan.parts]
    shared = plan.inputs.tracks.overlap_frames
    return tuple(int(join) for join in np.cumsum([sizes[0], *(size - shared for size in sizes[1:-1])]))


def _level(wave: Curve) -> float:
    """Decibels of full scale, not below -60."""
    return float(20 * np.log10(max(1e-3, float(np.sqrt((wave**2).mean())))))


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    run(__doc__, "joins", 20, measure)
