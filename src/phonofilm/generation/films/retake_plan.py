"""The plan of a clip in which stretches are made anew, each in a run of its own, in a window that the model makes at once."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan, PlannedPart, plan_clip
from phonofilm.generation.films.film_plan import part_sizes
from phonofilm.generation.films.parts import fits_one_part
from phonofilm.generation.films.retakes import Retake
from phonofilm.generation.inputs import ClipInputs
from phonofilm.media.clip import Clip, fit_length
from phonofilm.pipeline import edit_tasks
from phonofilm.pipeline.call_arguments import first_frames


def is_in_parts(inputs: ClipInputs, checkpoint: Checkpoint) -> bool:
    """Whether stretches take a run each: there are several, one has a prompt, or the clip is too long to be made at once."""
    clip = inputs.tracks.video
    if clip is None or not inputs.retakes:
        return False
    own = fits_one_part(clip.num_frames, part_sizes(inputs, checkpoint))
    return len(inputs.retakes) > 1 or inputs.retakes[0].prompt is not None or not own


def plan_retakes(inputs: ClipInputs, checkpoint: Checkpoint) -> ClipPlan:
    """Plan every stretch. Raises InputError for the first thing wrong in any of them."""
    clip = inputs.tracks.video
    assert clip is not None
    if inputs.tracks.retake_tracks != "video":
        clip = _with_the_models_sound(clip, checkpoint.geometry.sampling_rate)
    longest = 1 + (sizes := part_sizes(inputs, checkpoint)).factor * sizes.most_latents
    parts = []
    for one in inputs.retakes:
        begin, end = _window(one, clip, longest)
        plan = plan_clip(_inputs_of(inputs, one, clip, begin, end), checkpoint)
        about = f"{one.start:g} to {one.end:g} s anew"
        parts.append(
            PlannedPart(plan, about, partial(_with_clip, begin=begin, end=end), partial(_put_back, begin=begin))
        )
    largest = max((part.plan for part in parts), key=lambda plan: plan.sampling.task.geometry.num_frames)
    whole = replace(inputs, tracks=replace(inputs.tracks, video=clip))
    return replace(largest, inputs=whole, seed=inputs.seed, parts=tuple(parts))


def _with_the_models_sound(clip: Clip, rate: int) -> Clip:
    """The clip with its sound as the model has it, in which stretches can be replaced."""
    if clip.audio is None or clip.sampling_rate is None:
        return clip
    return replace(clip, audio=edit_tasks.model_sound(clip.audio, clip.sampling_rate, rate)[None], sampling_rate=rate)


def _window(one: Retake, clip: Clip, longest: int) -> tuple[int, int]:
    """The frames that are seen while a stretch is made: all, or as many as the model makes at once with it in the middle."""
    edit_tasks.check_stretch(one.start, one.end, clip)
    if clip.num_frames <= longest:
        return 0, clip.num_frames
    first, last = math.floor(one.start * clip.frame_rate), math.ceil(one.end * clip.frame_rate)
    if last - first > longest // 2:
        raise InputError(
            f"retake {one.start:g}:{one.end:g} is longer than {float(longest // 2 / clip.frame_rate):.1f} s, the most that is "
            "made anew at once in a clip of this length; give it as several stretches"
        )
    begin = min(max(0, (first + last - longest) // 2), clip.num_frames - longest)
    return begin, begin + longest


def _inputs_of(inputs: ClipInputs, one: Retake, clip: Clip, begin: int, end: int) -> ClipInputs:
    shift = float(begin / clip.frame_rate)
    window = clip if (begin, end) == (0, clip.num_frames) else _cut(clip, begin, end)
    tracks = replace(inputs.tracks, video=window, retake=(one.start - shift, one.end - shift))
    return replace(inputs, prompt=one.prompt or inputs.prompt, tracks=tracks, retakes=())


def _with_clip(plan: ClipPlan, clip: Clip | None, begin: int, end: int) -> ClipPlan:
    """The plan of a stretch with what earlier stretches have become in its window."""
    assert clip is not None
    tracks = plan.inputs.tracks
    assert tracks.retake is not None
    window = _cut(clip, begin, end)
    task = edit_tasks.retake(window, plan.sampling.task.geometry, tracks.retake, tracks.retake_tracks)
    frames = first_frames(plan.inputs.image, task, plan.inputs.image_fit, prompts=1)
    return replace(plan, sampling=replace(plan.sampling, task=task, first_frames=frames))


def _put_back(plan: ClipPlan, clip: Clip | None, made: Clip, begin: int) -> Clip:
    assert clip is not None
    frames = np.concatenate([clip.frames[:begin], made.frames, clip.frames[begin + made.num_frames :]])
    if plan.inputs.tracks.retake_tracks == "video":
        return replace(clip, frames=frames)
    assert clip.audio is not None
    assert made.audio is not None
    start = clip.sample_at(begin)
    sound = np.concatenate(
        [fit_length(clip.audio, start), made.audio, clip.audio[:, start + made.audio.shape[1] :]], axis=1
    )
    return replace(clip, frames=frames, audio=sound)


def _cut(clip: Clip, begin: int, end: int) -> Clip:
    if clip.audio is None:
        return replace(clip, frames=clip.frames[begin:end])
    sound = clip.audio[:, clip.sample_at(begin) : clip.sample_at(end)]
    return replace(clip, frames=clip.frames[begin:end], audio=sound)
