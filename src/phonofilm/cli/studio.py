"""Making planned clips: the pipeline, loaded when the first clip needs it, its calls, and the files they become."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from phonofilm.cli.checkpoint import Checkpoint
from phonofilm.cli.devices import Machine, attention_of, explaining_memory, place
from phonofilm.cli.latents import save_latents
from phonofilm.cli.plan import ClipPlan
from phonofilm.cli.progress import Report
from phonofilm.cli.targets import LATENT, Target
from phonofilm.media import save_clip
from phonofilm.media.atomic import replacing
from phonofilm.media.sheet import contact_sheet
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.mova import MovaPipeline

# Weights of fewer bytes (the embedded model's) run on one thread: steps of a few milliseconds gain little from a second
# one, and lose a hundredfold when other work holds its core.
SMALL = 10**8


@dataclass
class Studio:
    """One checkpoint on one machine. `remove_video_dit`: give the high-noise expert's memory back once it is done."""

    checkpoint: Checkpoint
    machine: Machine
    report: Report
    remove_video_dit: bool = False
    _pipe: MovaPipeline | None = field(default=None, init=False)
    _layers_on_disk: TemporaryDirectory[str] | None = field(default=None, init=False)

    def make(self, plan: ClipPlan, overwrite: bool) -> list[Path]:
        """Make and write the clips of a plan one by one; each is written before the next begins."""
        written = []
        for index, target in enumerate(plan.prepared.targets):
            metadata = plan.metadata(index, self.checkpoint, self.machine)
            out = self._run(plan, index)
            self.report.stage(f"write {target.path}")
            if target.kind == LATENT:
                save_latents(out.frames, out.audio, metadata, target.path)
            else:
                self._save(plan, out, metadata, target, overwrite)
            written.append(target.path)
        return written

    def _run(self, plan: ClipPlan, index: int) -> MovaPipelineOutput:
        with explaining_memory(self.machine):
            return self._call(plan, index)

    def _call(self, plan: ClipPlan, index: int) -> MovaPipelineOutput:
        pipe, prepared, sampling = self.pipeline(), plan.prepared, plan.sampling
        tracks, sizes = prepared.tracks, plan.sizes
        self.report.start_steps(plan.experts)
        with attention_of(self.machine):
            out = pipe(
                prepared.prompt,
                plan.negative_prompt,
                image=prepared.image,
                last_image=prepared.last_image,
                video=tracks.video,
                audio=tracks.audio,
                continue_from=tracks.continue_from,
                overlap_frames=tracks.overlap_frames,
                retake=tracks.retake,
                retake_tracks=tracks.retake_tracks,
                image_fit=prepared.image_fit,
                height=plan.task.geometry.height,
                width=plan.task.geometry.width,
                num_frames=sizes.num_frames,
                frame_rate=sizes.frame_rate,
                num_inference_steps=sampling.num_inference_steps,
                guidance_scale=sampling.guidance_scale,
                audio_guidance_scale=sampling.audio_guidance_scale,
                modality_scale=sampling.modality_scale,
                video_shift=sampling.video_shift,
                audio_shift=sampling.audio_shift,
                boundary_ratio=sampling.boundary_ratio,
                generator=torch.Generator().manual_seed(prepared.seeds[index]),
                output_type=LATENT if prepared.targets[index].kind == LATENT else "pil",
                callback_on_step_end=partial(self._on_step, len(plan.steps)),
                remove_video_dit=self.remove_video_dit,
            )
        assert isinstance(out, MovaPipelineOutput)
        return out

    def _on_step(
        self, total: int, pipe: MovaPipeline, index: int, timestep: float, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        self.report.step(index + 1)
        if index + 1 == total:
            self.report.stage("decode picture and sound")
        return tensors

    def pipeline(self) -> MovaPipeline:
        """The pipeline, loaded when it is asked for first."""
        if self._pipe is None:
            pipe = MovaPipeline.from_pretrained(
                self.checkpoint.layout.folder,
                torch_dtype=self.machine.dtype,
                device="cpu" if self.machine.offloads else self.machine.device,
                progress=self.report.loading,
            )
            pipe.set_progress_bar_config(disable=True)
            if sum(part.nbytes for part in self.checkpoint.layout.components.values()) < SMALL:
                torch.set_num_threads(1)
            self._layers_on_disk = place(pipe, self.machine)
            self._pipe = pipe
        return self._pipe

    def _save(
        self, plan: ClipPlan, out: MovaPipelineOutput, metadata: dict[str, Any], target: Target, overwrite: bool
    ) -> None:
        (clip,) = out.clips([metadata])
        save_clip(
            clip,
            target.path,
            overwrite=overwrite,
            copy_audio_from=plan.keeps_audio_of,
            copy_video_from=plan.keeps_video_of,
        )
        if target.contact_sheet is not None:
            with replacing(target.contact_sheet) as temporary:
                contact_sheet(clip).save(temporary, format="PNG")
