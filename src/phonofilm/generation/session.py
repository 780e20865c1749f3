"""Making planned clips: the pipeline, loaded when the first clip needs it, its calls, and the files they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.files import replacing
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.latent_files import save_latents
from phonofilm.generation.loras import LoraUse, use_loras
from phonofilm.generation.outputs import LATENT, Output
from phonofilm.generation.placement.attention import attention_of
from phonofilm.generation.placement.computing import StepTimes, prepare_computing
from phonofilm.generation.placement.devices import Placement, explaining_memory, place
from phonofilm.generation.placement.layer_streaming import load_streamed
from phonofilm.generation.report import Report
from phonofilm.media import save_clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.parallel.parallel_session import ParallelSession
from phonofilm.parallel.ranks import RankError
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.stepcache import NO_CACHE

# Weights of fewer bytes (the embedded model's) run on one thread: steps of a few milliseconds gain little from a second
# one, and lose a hundredfold when other work holds its core.
SMALL = 10**8


@dataclass
class Session:
    """A checkpoint on a machine, loaded once and kept.

    `remove_video_dit`: give the high-noise expert's memory back once it is done.
    `team`: the ranks this process shares the work with; only the first of them writes.
    """

    checkpoint: Checkpoint
    placement: Placement
    report: Report
    remove_video_dit: bool = False
    team: ParallelSession | None = None
    _times: StepTimes = field(default_factory=StepTimes, init=False)
    _loras_in_use: tuple[LoraUse, ...] = field(default=(), init=False)
    _pipe: MovaPipeline | None = field(default=None, init=False)
    _layers_on_disk: TemporaryDirectory[str] | None = field(default=None, init=False)

    def make(self, plan: ClipPlan, overwrite: bool) -> list[Path]:
        """Make and write the clips of a plan one by one; each is written before the next begins."""
        written = []
        for index, output in enumerate(plan.inputs.outputs):
            out = self._run(plan, index)
            metadata = plan.metadata(index, self.checkpoint, self.placement) | self._counted(plan, out)
            if not self._finishes:
                continue
            self.report.stage(f"write {output.path}")
            if output.kind == LATENT:
                save_latents(out.frames, out.audio, metadata, output.path)
            else:
                self._save(plan, out, metadata, output, overwrite)
            written.append(output.path)
        return written

    def _run(self, plan: ClipPlan, index: int) -> MovaPipelineOutput:
        try:
            with explaining_memory(self.placement, self.team is not None):
                return self._call(plan, index)
        except PhonofilmError as error:
            if self.team is None:
                raise
            raise RankError(str(error)) from error

    @property
    def _finishes(self) -> bool:
        """Whether this process puts together and writes what is made."""
        return self.team is None or self.team.is_first

    def _counted(self, plan: ClipPlan, out: MovaPipelineOutput) -> dict[str, int]:
        """What the clip took, said aloud where a cache decided it."""
        if plan.sampling.cache == NO_CACHE:
            return {"forwards": out.forwards}
        skipped = f"{out.steps_skipped} of {len(plan.steps)} steps skipped"
        self.report.say(f"cache {plan.sampling.cache}: {skipped}, {out.forwards} of {plan.forwards} forwards")
        return {"forwards": out.forwards, "steps_skipped": out.steps_skipped}

    def _call(self, plan: ClipPlan, index: int) -> MovaPipelineOutput:
        pipe, inputs, sampling = self.pipeline(plan.loras), plan.inputs, plan.sampling
        tracks, sizes = inputs.tracks, plan.sizes
        seed, kind = inputs.seeds[index], inputs.outputs[index].kind
        if self.team is not None:
            seed = self.team.agree(seed)
        self.report.start_steps(plan.experts)
        self._times = StepTimes()
        with attention_of(self.placement):
            out = pipe(
                inputs.prompt,
                plan.negative_prompt,
                image=inputs.image,
                last_image=inputs.last_image,
                video=tracks.video,
                audio=tracks.audio,
                continue_from=tracks.continue_from,
                overlap_frames=tracks.overlap_frames,
                retake=tracks.retake,
                retake_tracks=tracks.retake_tracks,
                image_fit=inputs.image_fit,
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
                guidance_interval=sampling.guidance_interval,
                solver=sampling.solver,
                cache=sampling.cache,
                generator=torch.Generator().manual_seed(seed),
                output_type=LATENT if kind == LATENT or not self._finishes else "pil",
                callback_on_step_end=partial(self._on_step, len(plan.steps)),
                remove_video_dit=self.remove_video_dit,
            )
        assert isinstance(out, MovaPipelineOutput)
        if self.team is not None and not self._finishes and kind != LATENT:
            with torch.no_grad():
                self.team.assist(pipe, out.frames)
        if self.placement.computing.compiles:
            self.report.say(self._times.summary)
        return out

    def _on_step(
        self, total: int, pipe: MovaPipeline, index: int, timestep: float, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        self._times.step()
        self.report.step(index + 1)
        if index + 1 == total:
            self.report.stage("decode picture and sound")
        return tensors

    def pipeline(self, loras: Sequence[LoraUse] = ()) -> MovaPipeline:
        """The pipeline with exactly these LoRAs, loaded when it is first needed."""
        if self._pipe is None:
            self._pipe = self._set_up(loras) if self.team is None else self._set_up_in(self.team, loras)
        elif self.team is None or not self.team.asked.shard_weights:
            use_loras(self._pipe, loras)
        elif tuple(loras) != self._loras_in_use:
            raise InputError(
                "weights in parts cannot change their LoRAs; leave --shard-weights out, or make one run for each"
            )
        return self._pipe

    def _set_up(self, loras: Sequence[LoraUse]) -> MovaPipeline:
        pipe = self._load()
        if self.placement.vae_tiling:
            pipe.video_vae.enable_tiling()
        pipe.set_progress_bar_config(disable=True)
        if sum(part.nbytes for part in self.checkpoint.layout.components.values()) < SMALL:
            torch.set_num_threads(1)
        use_loras(pipe, loras)  # before weights are moved or changed in kind
        self._loras_in_use = tuple(loras)
        resident = None if self.placement.offloads else self.placement.device
        prepare_computing(pipe, self.placement.computing, resident, self.report)
        self._layers_on_disk = place(pipe, self.placement)
        return pipe

    def _set_up_in(self, team: ParallelSession, loras: Sequence[LoraUse]) -> MovaPipeline:
        heads = self.checkpoint.layout.components["video_dit"].config["num_heads"]
        self.report.say(team.meet(heads, self.placement.attention))
        with team.loading():
            pipe = self._set_up(loras)
            team.share(pipe)
        return pipe

    def _load(self) -> MovaPipeline:
        if self.placement.offload == "layer":
            return load_streamed(self.checkpoint, self.placement, self.report)
        waits = self.placement.offloads or self.placement.computing.quantize is not None
        parts = self.team is not None and self.team.asked.shard_weights
        return MovaPipeline.from_pretrained(
            self.checkpoint.layout.folder,
            torch_dtype=self.placement.dtype,
            device="cpu" if waits or parts else self.placement.device,
            progress=self.report.loading,
        )

    def _save(
        self, plan: ClipPlan, out: MovaPipelineOutput, metadata: dict[str, Any], output: Output, overwrite: bool
    ) -> None:
        (clip,) = out.clips([metadata])
        save_clip(
            clip,
            output.path,
            overwrite=overwrite,
            copy_audio_from=plan.keeps_audio_of,
            copy_video_from=plan.keeps_video_of,
        )
        if output.contact_sheet is not None:
            with replacing(output.contact_sheet) as temporary:
                contact_sheet(clip).save(temporary, format="PNG")
