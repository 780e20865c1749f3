"""How good the embedded model is, in numbers: everything `phonofilm nano measure` reports, and the order it is found in.

Nothing of a clip's hidden state is used to read a generated clip: events and attributes come from its frames and sound.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phonofilm.errors import InputError
from phonofilm.evaluation.audio_distances import signal_to_distortion, spectral_distance
from phonofilm.nano.world import SCENES, WorldClip
from phonofilm.pipeline.mova import MovaPipeline
from recipes.nano.measuring.generated_clips import (
    ClipMaker,
    GeneratedClip,
    MeasurePlan,
    MeasureProgress,
    Task,
    held_out_clips,
)
from recipes.nano.measuring.measure_rows import MeasureRow, Reading, own_row, read, shuffled_row
from recipes.nano.video_vae.reconstruction import moving_mask, named_colour

VAES = Task("through both VAEs", given="both")
FROM_FRAME = Task("generated, first frame", first_frame=True)
FROM_TEXT = Task("generated, text alone")
BRIDGE_OFF = Task("generated, bridge off", first_frame=True, bridge_scale=0.0)
SOUND_FOR_CLIP = Task("sound for a world clip", given="video")
PICTURE_FOR_SOUND = Task("picture for a world sound", first_frame=True, given="audio")
SHUFFLED = {"ground truth", VAES.name, FROM_FRAME.name, FROM_TEXT.name}
TIMED_CLIPS = 3


@dataclass(frozen=True)
class VaeQuality:
    """What the two VAEs lose, means over clips: dB of PSNR over all pixels and over those that move, the share of clips
    whose object keeps its colour to the last frame; log-mel distance and signal to distortion of the sound, in dB."""

    psnr_db: float
    moving_psnr_db: float
    colour_kept: float
    spectral_distance_db: float
    sdr_db: float


@dataclass(frozen=True)
class Speed:
    """seconds_per_clip: the median of a few clips made alone, from the prompt and the first frame to frames and sound.
    peak_memory_mb: of the process until then, measuring code and world included. threads: torch's, of `cores`."""

    seconds_per_clip: float
    peak_memory_mb: float
    threads: int
    cores: int
    device: str


@dataclass(frozen=True)
class MeasureReport:
    """Everything measured, and under which plan. `sampling`: steps and guidance as they were used."""

    plan: MeasurePlan
    model: str
    fingerprint: str
    sampling: dict[str, float]
    rows: tuple[MeasureRow, ...]
    sweep: tuple[MeasureRow, ...]
    reconstruction: VaeQuality
    speed: Speed

    def row(self, name: str) -> MeasureRow:
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Measured:
    """The report, and what pictures of it need: the held-out clips, what was made of them, and what was read in it."""

    report: MeasureReport
    truths: Sequence[WorldClip]
    shown: dict[str, list[GeneratedClip]]
    readings: dict[str, list[Reading]]


def measure(
    pipeline: MovaPipeline,
    folder: Path,
    plan: MeasurePlan | None = None,
    *,
    model: str = "nano",
    on_progress: MeasureProgress | None = None,
) -> Measured:
    """Make and read every clip of the plan. Clips are kept in `folder`, and a second call takes up what is there.

    Raises InputError for fewer clips than two of each scene: nothing could be shuffled.
    """
    plan = plan or MeasurePlan()
    if plan.clips < 2 * len(SCENES):
        raise InputError(
            f"{plan.clips} clips are too few to shuffle sounds within a scene; use {2 * len(SCENES)} or more"
        )
    truths = held_out_clips(pipeline, plan)
    maker = ClipMaker(pipeline, plan, folder / "clips", on_progress)
    speed = _speed(maker, truths)

    shown: dict[str, list[GeneratedClip]] = {"ground truth": [GeneratedClip(t.frames, t.audio) for t in truths]}
    for task in (VAES, FROM_FRAME, FROM_TEXT, BRIDGE_OFF, SOUND_FOR_CLIP, PICTURE_FOR_SOUND):
        shown[task.name] = maker.make(task, truths)
    readings = {name: [read(s, t) for s, t in zip(clips, truths, strict=True)] for name, clips in shown.items()}
    rows = []
    for name in shown:
        rows.append(own_row(name, readings[name], truths, _seconds(shown[name])))
        if name in SHUFFLED:
            rows.append(shuffled_row(f"{name}, shuffled", readings[name], truths))
    report = MeasureReport(
        plan=plan,
        model=model,
        fingerprint=maker.fingerprint,
        sampling=_sampling(pipeline, plan),
        rows=tuple(rows),
        sweep=tuple(_sweep(maker, truths[: plan.sweep_clips], scale) for scale in plan.sweep),
        reconstruction=_reconstruction(truths, shown[VAES.name]),
        speed=speed,
    )
    return Measured(report, truths, shown, readings)


def _sweep(maker: ClipMaker, truths: Sequence[WorldClip], scale: float) -> MeasureRow:
    task = Task(FROM_FRAME.name, first_frame=True, modality_scale=scale)
    clips = maker.make(task, truths)
    return own_row(
        f"s_B = {scale:g}", [read(s, t) for s, t in zip(clips, truths, strict=True)], truths, _seconds(clips)
    )


def _seconds(clips: Sequence[GeneratedClip]) -> float | None:
    return float(np.mean([clip.seconds for clip in clips])) or None


def _sampling(pipeline: MovaPipeline, plan: MeasurePlan) -> dict[str, float]:
    defaults = pipeline.defaults
    guidance = defaults.guidance_scale if plan.guidance_scale is None else plan.guidance_scale
    return {
        "steps": defaults.num_inference_steps if plan.steps is None else plan.steps,
        "guidance_scale": guidance,
        "audio_guidance_scale": guidance if plan.audio_guidance_scale is None else plan.audio_guidance_scale,
        "modality_scale": defaults.modality_scale if plan.modality_scale is None else plan.modality_scale,
    }


def _speed(maker: ClipMaker, truths: Sequence[WorldClip]) -> Speed:
    """Before anything else is made, so that the peak of memory is generation's."""
    seconds = [maker.single(FROM_FRAME, truths[i % len(truths)]).seconds for i in range(TIMED_CLIPS)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Speed(
        seconds_per_clip=float(np.median(seconds)),
        peak_memory_mb=peak / (2**20 if sys.platform == "darwin" else 2**10),
        threads=torch.get_num_threads(),
        cores=os.cpu_count() or 0,
        device=str(maker.pipeline.device),
    )


def _reconstruction(truths: Sequence[WorldClip], shown: Sequence[GeneratedClip]) -> VaeQuality:
    whole, moving, kept, distances, ratios = [], [], [], [], []
    for truth, back in zip(truths, shown, strict=True):
        error = (back.frames.astype(np.float32) - truth.frames) ** 2
        moves = moving_mask(truth.frames)
        whole.append(_decibels(error))
        if moves.any():
            moving.append(_decibels(error[moves]))
        colour = truth.attributes["colour"]
        kept.append(named_colour(back.frames[-1], truth.frames[-1], colour) == colour)
        wave, decoded = torch.from_numpy(truth.audio), torch.from_numpy(back.audio)
        distances.append(spectral_distance(wave, decoded, truth.sampling_rate))
        ratios.append(signal_to_distortion(wave, decoded))
    return VaeQuality(*(float(np.mean(values)) for values in (whole, moving, kept, distances, ratios)))


def _decibels(squared_error: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(float(squared_error.mean()), 1e-6)))
