"""The clips that are measured: held-out world clips, and what a pipeline makes of their prompts, frames and sounds.

Every clip that is made is kept in a folder under the hash of all that decides it, and is not made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from phonofilm.files import replacing
from phonofilm.media.clip import Clip
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, WorldClip, make_clip
from phonofilm.pipeline import conditions, decode
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.mova import MovaPipeline

MeasureProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MeasurePlan:
    """What to measure and how to sample. None leaves a setting to the checkpoint.

    clips: held-out clips of most rows, scenes in turn, from `first_seed`. sweep: values of s_B, each over `sweep_clips`.
    batch: clips per pipeline call. The start noise of clip i has seed `noise_seed` + i in every row.
    """

    clips: int = 100
    first_seed: int = HELD_OUT_SEED
    noise_seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    modality_scale: float | None = None
    sweep: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    sweep_clips: int = 32
    batch: int = 8


@dataclass(frozen=True)
class Task:
    """One way to make a clip from a held-out one's prompt, and maybe from its first frame, its picture or its sound."""

    name: str
    first_frame: bool = False
    given: Literal["nothing", "video", "audio", "both"] = "nothing"
    bridge_scale: float = 1.0
    modality_scale: float | None = None


@dataclass(frozen=True)
class GeneratedClip:
    """A clip as it is measured: frames uint8 [f, h, w, 3], sound float32 [samples]; `seconds` it took to make."""

    frames: NDArray[np.uint8]
    audio: NDArray[np.float32]
    seconds: float = 0.0


def held_out_clips(pipeline: MovaPipeline, plan: MeasurePlan) -> list[WorldClip]:
    """World clips no training saw, of the checkpoint's size and rates, the scenes in turn."""
    geometry = pipeline.default_geometry
    scenes = tuple(SCENES)
    return [
        make_clip(
            plan.first_seed + i,
            scene=scenes[i % len(scenes)],
            size=geometry.height,
            num_frames=geometry.num_frames,
            frame_rate=geometry.frame_rate,
            sampling_rate=geometry.sampling_rate,
        )
        for i in range(plan.clips)
    ]


class ClipMaker:
    """Makes and keeps clips. `folder` may hold clips of earlier runs; those whose settings are the same are read."""

    def __init__(
        self, pipeline: MovaPipeline, plan: MeasurePlan, folder: Path, on_progress: MeasureProgress | None = None
    ) -> None:
        self.pipeline = pipeline
        self.plan = plan
        self.folder = folder
        self.on_progress = on_progress
        self.fingerprint = fingerprint(pipeline)

    def make(self, task: Task, truths: Sequence[WorldClip]) -> list[GeneratedClip]:
        """One clip per truth."""
        files = [self._file(task, index, truth) for index, truth in enumerate(truths)]
        missing = [index for index, file in enumerate(files) if not file.exists()]
        size = self.plan.batch if task.given == "nothing" else 1
        done = len(files) - len(missing)
        for start in range(0, len(missing), size):
            self._report(task, done, len(files))
            chosen = missing[start : start + size]
            for index, shown in zip(chosen, self._generate(task, chosen, truths), strict=True):
                _keep(shown, files[index])
            done += len(chosen)
        self._report(task, done, len(files))
        return [_read(file) for file in files]

    def single(self, task: Task, truth: WorldClip) -> GeneratedClip:
        """One clip made alone and not kept: for its time."""
        return self._generate(task, [0], [truth])[0]

    def _generate(self, task: Task, chosen: Sequence[int], truths: Sequence[WorldClip]) -> list[GeneratedClip]:
        prompts = [truths[index] for index in chosen]
        began = time.perf_counter()
        if task.given == "both":
            made = [_through_vaes(self.pipeline, truth) for truth in prompts]
        else:
            out = self.pipeline(
                [truth.caption for truth in prompts],
                image=[Image.fromarray(truth.frames[0]) for truth in prompts] if task.first_frame else None,
                video=_clip(prompts[0]) if task.given == "video" else None,
                audio=(prompts[0].audio[None], prompts[0].sampling_rate) if task.given == "audio" else None,
                num_inference_steps=self.plan.steps,
                guidance_scale=self.plan.guidance_scale,
                audio_guidance_scale=self.plan.audio_guidance_scale,
                modality_scale=self._modality_scale(task),
                bridge_scale=task.bridge_scale,
                generator=[torch.Generator().manual_seed(self.plan.noise_seed + index) for index in chosen],
                output_type="np",
            )
            assert isinstance(out, MovaPipelineOutput)
            made = [(decode.to_uint8(frames), audio[0]) for frames, audio in zip(out.frames, out.audio, strict=True)]
        seconds = (time.perf_counter() - began) / len(chosen)
        return [GeneratedClip(frames, audio, seconds) for frames, audio in made]

    def _modality_scale(self, task: Task) -> float | None:
        return self.plan.modality_scale if task.modality_scale is None else task.modality_scale

    def _file(self, task: Task, index: int, truth: WorldClip) -> Path:
        plan = self.plan
        decides = {
            "model": self.fingerprint,
            "task": dataclasses.asdict(task)
            | {"modality_scale": self._modality_scale(task) or self.pipeline.defaults.modality_scale},
            "sampling": [plan.steps, plan.guidance_scale, plan.audio_guidance_scale, plan.noise_seed + index],
            "defaults": dataclasses.asdict(self.pipeline.defaults),
            "truth": [truth.caption, zlib.crc32(truth.frames.tobytes()), zlib.crc32(truth.audio.tobytes())],
        }
        name = f"{truth.seed}-{_digest(decides)}.npz"
        return self.folder / task.name / name

    def _report(self, task: Task, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(task.name, done, total)


@torch.no_grad()
def fingerprint(pipeline: MovaPipeline) -> str:
    """Tells checkpoints apart: a digest of every network's weights, by their sums."""
    sums = {
        f"{component}.{name}": [float(tensor.double().sum()), float(tensor.double().abs().sum())]
        for component, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for name, tensor in module.state_dict().items()
    }
    return _digest(sums)


@torch.no_grad()
def _through_vaes(pipeline: MovaPipeline, truth: WorldClip) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A world clip encoded and decoded, nothing in between: the best the rest of the model could do."""
    pixels = torch.from_numpy(truth.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    latents = conditions.encode_video(pipeline.video_vae, pixels, pipeline.device)
    frames = decode.decode_video(pipeline.video_vae, latents)[0]
    vae = pipeline.audio_vae
    wave = torch.from_numpy(truth.audio)[None, None].to(device=pipeline.device, dtype=vae.dtype)
    sound = decode.decode_audio(vae, vae.encode(wave).mode(), pipeline.default_geometry)
    return decode.to_uint8(frames.permute(0, 2, 3, 1).numpy()), sound[0, 0].numpy()


def _clip(truth: WorldClip) -> Clip:
    """The picture alone: sound is what is asked for."""
    return Clip(truth.frames, Fraction(truth.frame_rate))


def _keep(shown: GeneratedClip, file: Path) -> None:
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, frames=shown.frames, audio=shown.audio, seconds=shown.seconds)


def _read(file: Path) -> GeneratedClip:
    with np.load(file) as kept:
        return GeneratedClip(kept["frames"], kept["audio"], float(kept["seconds"]))


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
