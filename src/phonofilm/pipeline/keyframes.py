"""Pictures that a clip shows at given times, between its first frame and its last.

A picture is held as one latent frame, `temporal_factor` frames long, which is put back at every step as a known stretch is.
The mask channels that tell the towers of a first frame are left alone: they were trained with a first frame, and putting
the picture there as well made the embedded model's clips worse (docs/generate.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.media.images import Fit, fit_image
from phonofilm.pipeline.edit_tasks import EditTask, KnownTrack


@dataclass(frozen=True)
class Keyframe:
    """A picture, and the second at which it is shown."""

    seconds: float
    picture: Image.Image


def with_keyframes(task: EditTask, keyframes: Sequence[Keyframe], fit: Fit, has_last: bool = False) -> EditTask:
    """The task with these pictures held in its picture.

    Raises InputError for one outside the clip, in a given picture, or, where the clip has a last frame, in the place of that.
    """
    if not keyframes:
        return task
    geometry = task.geometry
    places = [keyframe_latent(one, task) for one in keyframes]
    if len(set(places)) < len(places):
        seconds = float(geometry.temporal_factor / geometry.frame_rate)
        raise InputError(
            f"two keyframes are closer than {seconds:.2f} s, for which the model has one place; leave one out"
        )
    if has_last and geometry.latent_frames - 1 in places:
        seconds = float(geometry.temporal_factor / geometry.frame_rate)
        raise InputError(
            f"a keyframe and last_image are closer than {seconds:.2f} s, for which the model has one place; leave one out"
        )
    stills = {
        place: np.asarray(fit_image(one.picture, geometry.height, geometry.width, fit))
        for place, one in zip(places, keyframes, strict=True)
    }
    given = np.zeros((0, geometry.height, geometry.width, 3), np.uint8) if task.video is None else task.video.data
    where = np.zeros(geometry.latent_frames, dtype=bool) if task.video is None else task.video.where
    if len(given) == geometry.num_frames:
        raise InputError("a keyframe goes into a picture that is made; leave video out")
    if any(where[place] for place in places):
        raise InputError("a keyframe lies in a stretch of the picture that is given; choose another time")
    rest = [stills[min(stills, key=lambda at: abs(at - latent))] for latent in _latents(geometry)[len(given) :]]
    data = np.concatenate([given, np.stack(rest)])
    where = where | np.isin(np.arange(geometry.latent_frames), places)
    return replace(task, video=KnownTrack(data, where))


def keyframe_latent(one: Keyframe, task: EditTask) -> int:
    """The latent frame that shows a keyframe. Raises InputError for a time outside the clip."""
    geometry = task.geometry
    length = float((geometry.num_frames - task.lead) / geometry.frame_rate)
    frame = task.lead + round(one.seconds * geometry.frame_rate) if 0 <= one.seconds < length else geometry.num_frames
    if frame >= geometry.num_frames:
        what = "the clip, which is" if task.given_frames == 0 else "the new part, in which its time counts and which is"
        raise InputError(f"keyframe at {one.seconds:g} s is outside {what} {length:.3f} s long")
    if frame == task.lead == 0:
        raise InputError("a keyframe at 0 s is the first frame; give it as image")
    return int(_latents(geometry)[frame])


def _latents(geometry: ClipGeometry) -> np.ndarray:
    """The latent frame of every frame of a clip."""
    return (np.arange(geometry.num_frames) + geometry.temporal_factor - 1) // geometry.temporal_factor
