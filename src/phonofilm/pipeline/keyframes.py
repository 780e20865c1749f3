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
from phonofilm.media.images import Fit, fit_image
from phonofilm.pipeline.edit_tasks import EditTask, KnownTrack
from phonofilm.pipeline.keyframe_places import keyframe_places, latent_of


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
    seconds = [one.seconds for one in keyframes]
    places = keyframe_places(seconds, geometry, task.lead, follows=task.given_frames > 0, has_last=has_last)
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
    latents = [latent_of(frame, geometry) for frame in range(len(given), geometry.num_frames)]
    rest = [stills[min(stills, key=lambda at: abs(at - latent))] for latent in latents]
    data = np.concatenate([given, np.stack(rest)])
    where = where | np.isin(np.arange(geometry.latent_frames), places)
    return replace(task, video=KnownTrack(data, where))
