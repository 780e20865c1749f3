"""The plan of a film: a clip longer than the model makes at once, in parts that each go on from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan, PlannedPart, plan_clip
from phonofilm.generation.films.parts import FilmPart, PartSizes, divide, fits_one_part
from phonofilm.generation.films.timed_prompts import EXAMPLE, TimedPrompt
from phonofilm.generation.inputs import ClipInputs
from phonofilm.geometry import ClipGeometry, frames_for_seconds, parse_frame_rate
from phonofilm.media.clip import Clip, fit_length
from phonofilm.pipeline import edit_tasks
from phonofilm.pipeline.call_arguments import Tracks, first_frames
from phonofilm.pipeline.keyframe_places import outside
from phonofilm.pipeline.keyframes import Keyframe, with_keyframes


def is_film(inputs: ClipInputs, checkpoint: Checkpoint) -> bool:
    """Whether a clip is made in parts: its prompt has times, or its seconds are more than the model makes at once.

    Raises InputError for prompts with times, or a length of parts, that cannot be used.
    """
    options, tracks = inputs.options, inputs.tracks
    prompts = inputs.timed_prompts
    given = [name for name in ("video", "audio", "continue_from") if getattr(tracks, name) is not None]
    if prompts and (given or options.num_frames is not None):
        other = given[0] if given else "num_frames"
        raise InputError(f"a prompt with times ({EXAMPLE!r}) makes a film from its start; leave {other} out")
    film = bool(prompts)
    if options.seconds is not None and tracks.video is None and tracks.audio is None:
        frames = frames_for_seconds(options.seconds, _rate(inputs, checkpoint), checkpoint.geometry.temporal_factor)
        film = film or not fits_one_part(frames, part_sizes(inputs, checkpoint))
    for name in ("part_seconds", "overlap_frames"):
        used = film or (name == "overlap_frames" and tracks.continue_from is not None)
        if getattr(options, name) is not None and not used:
            raise InputError(f"{name} was given, and the clip is made in one part; it would change nothing")
    return film


def plan_film(inputs: ClipInputs, checkpoint: Checkpoint) -> ClipPlan:
    """Plan every part. Raises InputError for the first thing wrong in any of them."""
    rate, sizes = _rate(inputs, checkpoint), part_sizes(inputs, checkpoint)
    prompts = inputs.timed_prompts
    seconds = inputs.options.seconds if inputs.options.seconds is not None else prompts[-1].end
    if prompts and seconds < prompts[-1].end:
        raise InputError(f"seconds {seconds:g} ends before the last prompt does, at {prompts[-1].end:g} s")
    prompts = prompts or (TimedPrompt(0.0, seconds, inputs.prompt),)
    frames = frames_for_seconds(seconds, rate, sizes.factor)
    divided = divide(prompts, frames, rate, sizes, continues=inputs.tracks.continue_from is not None)
    keyframes = _dealt(inputs.keyframes, divided, rate)
    first = replace(_first_inputs(inputs, divided[0], last=len(divided) == 1), keyframes=keyframes[0])
    plans = [plan_clip(first, checkpoint)]
    geometry = plans[0].sampling.task.geometry
    for part, shown in zip(divided[1:], keyframes[1:], strict=True):
        later = replace(_later_inputs(inputs, part, geometry, last=part is divided[-1]), keyframes=shown)
        plans.append(plan_clip(later, checkpoint))
    planned: list[PlannedPart] = []
    end = 0
    for part, plan in zip(divided, plans, strict=True):
        begin, end = end, end + part.num_frames - (part.overlap if planned else 0)
        about = f"{float(begin / rate):.2f} to {float(end / rate):.2f} s"
        planned.append(
            PlannedPart(plan, about, _going_on if planned else _as_planned, _appended if planned else _alone)
        )
    largest = max(plans, key=lambda plan: plan.sampling.task.geometry.num_frames)
    film = replace(plans[0], inputs=inputs, sampling=largest.sampling, seed=inputs.seed)
    return replace(film, parts=tuple(planned), film_frames=frames)


def _dealt(keyframes: Sequence[Keyframe], parts: Sequence[FilmPart], rate: Fraction) -> list[tuple[Keyframe, ...]]:
    """Each part's keyframes, with the seconds of its window. Raises InputError for one outside the film."""
    dealt, end, left = [], 0, list(keyframes)
    for part in parts:
        begin = max(0, end - part.overlap)
        end = begin + part.num_frames
        mine = [one for one in left if one.seconds * rate < end - 0.5]  # not for NaN and infinity
        dealt.append(tuple(replace(one, seconds=one.seconds - float(begin / rate)) for one in mine))
        left = [one for one in left if one not in mine]
    if left:
        raise outside(left[0].seconds, "the film, which is", end, float(rate))
    return dealt


def _rate(inputs: ClipInputs, checkpoint: Checkpoint) -> Fraction:
    clip = inputs.tracks.clip
    if inputs.options.fps is not None:
        return parse_frame_rate(inputs.options.fps)
    return checkpoint.geometry.frame_rate if clip is None else clip.frame_rate


def part_sizes(inputs: ClipInputs, checkpoint: Checkpoint) -> PartSizes:
    """A part lasts as long as the checkpoint's own clip, or as asked, at whatever frame rate."""
    own = checkpoint.geometry
    seconds = own.seconds if inputs.options.part_seconds is None else Fraction(inputs.options.part_seconds)
    frames = frames_for_seconds(float(seconds), _rate(inputs, checkpoint), own.temporal_factor)
    overlap = inputs.tracks.overlap_frames
    if inputs.options.part_seconds is not None and frames <= overlap:
        raise InputError(
            f"part_seconds {inputs.options.part_seconds:g} makes parts of {frames} frames, and each should be longer than the "
            f"{overlap} that it shares with the one before (overlap_frames); use more seconds"
        )
    return PartSizes(frames, overlap, own.temporal_factor)


def _first_inputs(inputs: ClipInputs, part: FilmPart, last: bool) -> ClipInputs:
    options = replace(inputs.options, seconds=None, num_frames=part.num_frames)
    return replace(inputs, options=options, prompt=part.prompt, last_image=inputs.last_image if last else None)


def _later_inputs(inputs: ClipInputs, part: FilmPart, geometry: ClipGeometry, last: bool) -> ClipInputs:
    """What a later part is planned from, with black frames and silence in place of the part before."""
    before = Clip(
        np.zeros((part.overlap, geometry.height, geometry.width, 3), np.uint8),
        geometry.frame_rate,
        np.zeros((1, round(part.overlap / geometry.frame_rate * geometry.sampling_rate)), np.float32),
        geometry.sampling_rate,
    )
    size = f"{geometry.width}x{geometry.height}"
    options = replace(inputs.options, seconds=None, num_frames=part.num_frames, size=size, fps=str(geometry.frame_rate))
    return replace(
        inputs,
        options=options,
        prompt=part.prompt,
        image=None,
        last_image=inputs.last_image if last else None,
        tracks=Tracks(continue_from=before, overlap_frames=part.overlap),
    )


def _as_planned(plan: ClipPlan, film: Clip | None) -> ClipPlan:
    return plan


def _going_on(plan: ClipPlan, film: Clip | None) -> ClipPlan:
    """The plan of a later part with the film's last frames and sound in it."""
    assert film is not None
    geometry, overlap = plan.sampling.task.geometry, plan.inputs.tracks.overlap_frames
    task = edit_tasks.continuation(_ending(film, overlap), geometry, overlap)
    task = with_keyframes(task, plan.inputs.keyframes, plan.inputs.image_fit)
    frames = first_frames(None, task, plan.inputs.image_fit, prompts=1)
    return replace(plan, sampling=replace(plan.sampling, task=task, first_frames=frames))


def _alone(plan: ClipPlan, film: Clip | None, made: Clip) -> Clip:
    return made


def _appended(plan: ClipPlan, film: Clip | None, made: Clip) -> Clip:
    """The film with a later part, which begins with the film's own last frames and sound, in place of them."""
    assert film is not None
    assert film.audio is not None
    assert made.audio is not None
    past = film.num_frames - plan.inputs.tracks.overlap_frames
    frames = np.concatenate([film.frames[:past], made.frames])
    begin = film.sample_at(past)
    sound = np.concatenate([fit_length(film.audio, begin), made.audio], axis=1)
    return replace(film, frames=frames, audio=sound)


def _ending(film: Clip, frames: int) -> Clip:
    assert film.audio is not None
    past = film.num_frames - frames
    return replace(film, frames=film.frames[past:], audio=film.audio[:, film.sample_at(past) :])
