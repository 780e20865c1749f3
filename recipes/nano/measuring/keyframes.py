"""Keyframes of the embedded model: how near is the clip to the picture at its time, and is sync elsewhere as it was?

    python -m recipes.nano.measuring.keyframes -o DIR --clips 40

Held-out clips, the scenes in turn, first frame and caption given, each made with the scene's own frame held at 1.25 s and
without it. Distances are mean absolute differences in grey levels of 255. Events nearer than `NEAR` to the keyframe are
left out of the sync of both rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from phonofilm import Clip
from phonofilm.evaluation.sync import Matching, match
from phonofilm.nano.reading.frame_reader import read_frames
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, WorldClip, make_clip
from recipes.nano.measuring.session_clips import Figures, Request, SessionClips, first_frame, onsets, run, sync_figures

AT = 1.25  # seconds
NEAR = 0.25  # seconds


def measure(clips: SessionClips, count: int) -> Figures:
    scenes = tuple(SCENES)
    worlds = [make_clip(HELD_OUT_SEED + index, scene=scenes[index % len(scenes)]) for index in range(count)]
    without = [Request(world.caption, index, first_frame(world)) for index, world in enumerate(worlds)]
    held = [
        replace(request, keyframes={AT: Image.fromarray(world.frames[_place(world)])})
        for request, world in zip(without, worlds, strict=True)
    ]
    return report(worlds, clips.make("with the keyframe", held), clips.make("without it", without))


def report(worlds: Sequence[WorldClip], held: Sequence[Clip], without: Sequence[Clip]) -> Figures:
    """Both rows: see the module."""
    return {"with the keyframe": _row(held, worlds), "without it": _row(without, worlds)}


def _row(clips: Sequence[Clip], worlds: Sequence[WorldClip]) -> Figures:
    distances = [
        float(np.abs(clip.frames[_place(world)].astype(float) - world.frames[_place(world)]).mean())
        for clip, world in zip(clips, worlds, strict=True)
    ]
    elsewhere = sync_figures([_elsewhere(clip) for clip in clips], float(1 / worlds[0].frame_rate))
    return {"distance at the keyframe": round(float(np.mean(distances)), 2), "sync elsewhere": elsewhere}


def _elsewhere(clip: Clip) -> Matching:
    events = [time for time in read_frames(clip.frames, clip.frame_rate).events if abs(time - AT) > NEAR]
    return match(events, onsets(clip))


def _place(world: WorldClip) -> int:
    """The frame that is shown at the keyframe's time."""
    return round(AT * world.frame_rate)


if __name__ == "__main__":
    run(__doc__, "keyframes", 40, measure)
