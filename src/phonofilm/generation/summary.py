"""The plan of a clip in one line, before anything long runs."""

from __future__ import annotations

from collections import Counter

import psutil
import torch

from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.few_step_students import few_step_summary
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.pipeline.guidance import EVERY_STEP
from phonofilm.pipeline.sampling_limits import NO_CACHE
from phonofilm.pipeline.solvers import DEFAULT_SOLVER
from phonofilm.units import format_size


def plan_line(plan: ClipPlan, checkpoint: Checkpoint, placement: DevicePlacement, clips: int = 1) -> str:
    """Model, size, length, steps, guidance, device, precision, seeds, and the memory that the weights take."""
    geometry = plan.sampling.task.geometry
    seconds = float(plan.frames_in_all / geometry.frame_rate)
    experts = Counter(plan.sampling.experts)
    times = f"{len(plan.parts)} x " if plan.parts else ""
    forwards = sorted({len(scales.evaluations) for scales in plan.sampling.guidance})
    parts = [
        checkpoint.portable_name,
        f"{geometry.width}x{geometry.height}",
        f"{plan.frames_in_all} frames, {seconds:.3f} s at {float(geometry.frame_rate):g} fps",
        *(_parts(plan) if plan.parts else ()),
        _task(plan),
        f"{times}{len(plan.sampling.steps)} {'distilled ' if plan.sampling.few_steps else ''}"
        f"step{'' if len(plan.sampling.steps) == 1 else 's'} "
        f"({' + '.join(f'{experts[name]} {name}-noise' for name in experts)})",
        f"{'-'.join(map(str, forwards))} forward{'s' if forwards[-1] > 1 else ''} a step, {_sampling(plan)}",
        *(f"LoRA {use.summary}" for use in plan.loras),
        *(few_step_summary(plan.loras) if plan.loras else ()),
        f"{placement.device} {placement.dtype_name}"
        + (f", offload {placement.offload}" if placement.offload != "none" else "")
        + (f", attention {placement.attention}" if placement.attention != "native" else "")
        + (f", {placement.computing.summary}" if placement.computing.summary else ""),
        f"seed {plan.seed}" if clips == 1 else f"{clips} clips, seeds {plan.seed} to {plan.seed + clips - 1}",
        f"weights {format_size(checkpoint.weight_bytes(placement.dtype.itemsize))}",
    ]
    return " · ".join(parts)


def memory_warning(checkpoint: Checkpoint, placement: DevicePlacement) -> str | None:
    """What to say when the weights will not fit where they go, or None."""
    needed = checkpoint.weight_bytes(placement.dtype.itemsize)
    on_host = placement.device.type != "cuda" or placement.offloads
    there = (
        psutil.virtual_memory().total if on_host else torch.cuda.get_device_properties(placement.device).total_memory
    )
    if needed <= there or placement.disk is not None:
        return None
    advice = "dtype=bfloat16 halves them" if placement.dtype == torch.float32 else "use a machine with more memory"
    if not on_host:
        advice = "offload=cpu or offload=group keeps them in host memory"
    where = "host memory" if on_host else str(placement.device)
    return f"the weights take {format_size(needed)} and {where} has {format_size(there)}; {advice}"


def _parts(plan: ClipPlan) -> list[str]:
    """How many parts a clip is made in, and in how many places they meet."""
    joins = len(plan.parts) - 1
    if plan.film_frames is None:
        return [f"{joins + 1} runs"] if joins > 0 else []
    return [f"{joins + 1} parts, {joins} join{'s' if joins > 1 else ''}"] if joins > 0 else []


def _task(plan: ClipPlan) -> str:
    tracks, inputs = plan.inputs.tracks, plan.inputs
    keys = len(inputs.keyframes)
    found = {
        "first frame": inputs.image is not None,
        "last frame": inputs.last_image is not None,
        f"{keys} keyframe{'' if keys == 1 else 's'}": keys > 0,
    }
    names = [name for name, is_there in found.items() if is_there]
    frames = [f"{' and '.join(names)} given"] if names else []
    if tracks.retake is not None:
        stretches = " and ".join(f"{one.start:g} to {one.end:g}" for one in inputs.retakes)
        what = {"both": "picture and sound", "video": "picture", "audio": "sound"}[tracks.retake_tracks]
        return f"{what} anew from {stretches} s"
    if tracks.video is not None:
        return "sound for a given picture"
    if tracks.audio is not None:
        return ", ".join(["picture for a given sound", *frames])
    if tracks.continue_from is not None:
        made = plan.film_frames or plan.sampling.task.geometry.num_frames
        return f"{made - tracks.overlap_frames} frames onto a given clip"
    if tracks.voice is not None:
        lead = float(plan.sampling.task.lead / plan.sampling.task.geometry.frame_rate)
        voice = (
            f"after a voice of {tracks.voice[0].shape[1] / tracks.voice[1]:.2f} s ({lead:.2f} s are made and cut off)"
        )
        return ", ".join([voice, *frames])
    return ", ".join(frames) or "text only (no first frame)"


def _sampling(plan: ClipPlan) -> str:
    """Forwards in all, then what is not as usual of solver, cache and guidance."""
    sampling = plan.sampling.sampling
    cached = sampling.cache != NO_CACHE
    forwards = sum(run.sampling.forwards for run in plan.runs)
    text = f"{'at most ' if cached else ''}{forwards} in all"
    text += "" if sampling.solver == DEFAULT_SOLVER else f", solver {sampling.solver}"
    text += f", cache {sampling.cache}" if cached else ""
    text += f", guidance {sampling.guidance_scale:g}"
    if sampling.audio_guidance_scale != sampling.guidance_scale:
        text += f", audio {sampling.audio_guidance_scale:g}"
    if sampling.guidance_interval != EVERY_STEP:
        text += " from {:g} to {:g} of the steps".format(*sampling.guidance_interval)
    scales = sampling.modality_scale if isinstance(sampling.modality_scale, tuple) else (sampling.modality_scale,)
    return text if scales == (1.0,) else f"{text}, modality {' to '.join(f'{s:g}' for s in scales)}"
