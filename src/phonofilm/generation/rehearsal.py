"""Rehearsing the output: what a run would write at its end is written before its first step, with black frames and silence.

Only what depends on the user's own files is tried: their tracks, copied or encoded into the kind of file that was asked for.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.outputs import CONTAINERS, FRAMES, Output
from phonofilm.media import Clip, save_clip
from phonofilm.media.formats import CONTAINER_FORMATS
from phonofilm.media.movie import why_encoded

_SIDE = 16
ENOUGH_FRAMES = 240


def rehearse_output(plan: ClipPlan, output: Output) -> None:
    """Raises InputError when the clip of `plan` could be made but not written to `output`."""
    video, audio = plan.picture_file if output.kind in CONTAINERS else None, plan.sound_file
    if output.kind not in (*CONTAINERS, FRAMES) or (video is None and audio is None):
        return
    fmt = CONTAINER_FORMATS.get(output.path.suffix.lower())
    if fmt is None or (
        video is not None and why_encoded(video, fmt, plan.sampling.task.geometry.frame_rate) is not None
    ):
        video = None  # it will be encoded, which can be done with any picture
    suffix = "" if output.kind == FRAMES else output.path.suffix.lower()
    with TemporaryDirectory(prefix="phonofilm-") as folder:
        try:
            save_clip(
                _silent_clip(plan, thinned=video is None),
                Path(folder) / f"clip{suffix}",
                copy_audio_from=audio,
                copy_video_from=video,
            )
        except (InputError, MediaError) as error:
            given = " and ".join(str(path) for path in (video, audio) if path is not None)
            reason = str(error).replace(f"cannot write {folder}/clip{suffix}: ", "").replace(f"{folder}/", "")
            raise InputError(
                f"a clip with the tracks of {given} could be made, but not written to {output.path}: {reason}; convert the "
                "file first (for example to H.264 and AAC at a constant frame rate), or choose a folder of frames"
            ) from error


def _silent_clip(plan: ClipPlan, thinned: bool) -> Clip:
    """As many frames as the clip will have, of the smallest size, with silence in the sound's own channels.

    `thinned`: of a long clip fewer frames a second, down to one, which fill the same time: an hour of them took minutes.
    """
    frames = np.broadcast_to(np.zeros((), np.uint8), (plan.frames_in_all, _SIDE, _SIDE, 3))
    rate, channels, sampling_rate = plan.sampling.task.geometry.frame_rate, 1, plan.sampling.task.geometry.sampling_rate
    audio = plan.inputs.tracks.audio
    if isinstance(audio, tuple):
        (channels, samples), sampling_rate = audio[0].shape, audio[1]
        shown = -(-samples * rate // sampling_rate)
        frames = frames[: max(1, min(len(frames), int(shown)))]
    every = max(1, min(int(rate), len(frames) // ENOUGH_FRAMES)) if thinned else 1
    frames, rate = frames[: max(1, len(frames) // every)], rate / every
    length = int(Fraction(len(frames)) / rate * sampling_rate)
    return Clip(frames, rate, np.zeros((channels, length), np.float32), sampling_rate)
