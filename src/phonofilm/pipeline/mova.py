"""The pipeline: prompt, pictures and tracks in; frames and sound out. This is the plot; its chapters are the other files here."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry, parse_frame_rate
from phonofilm.media.clip import Clip
from phonofilm.media.images import Fit
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.loading import Dtypes, LoadProgress
from phonofilm.models.video import WanModel
from phonofilm.pipeline import conditions, decode, edit_tasks, pretrained, request
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.denoising import Engine, Experts, ExpertVelocity, Resident, model_text
from phonofilm.pipeline.edit_tasks import EditTask
from phonofilm.pipeline.finite import require_finite, require_finite_weights
from phonofilm.pipeline.guidance import EVERY_STEP, guidance_per_step
from phonofilm.pipeline.loras import LoraMethods
from phonofilm.pipeline.request import Defaults, Picture
from phonofilm.pipeline.sampling import clean_where_known, sample
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, Step
from phonofilm.pipeline.solvers import DEFAULT_SOLVER, PairSolver
from phonofilm.pipeline.stepcache import NO_CACHE, StepCache, parse_cache
from phonofilm.pipeline.types import Decoded, Latents, Text

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class MovaPipeline(LoraMethods, DiffusionPipeline):
    """MOVA: picture and sound of a clip, generated together.

    `video_dit` is the high-noise expert and `video_dit_2` the low-noise one (None for a single-expert checkpoint).
    `defaults` overrides fields of `Defaults` for a checkpoint of another size.
    """

    model_cpu_offload_seq = "text_encoder->video_dit->video_dit_2->video_vae->audio_vae"
    _optional_components = ["video_dit", "video_dit_2", "text_encoder", "tokenizer"]  # noqa: RUF012 - diffusers reads a list
    _callback_tensor_inputs = ["latents", "audio_latents"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        video_vae: Any,
        audio_vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: FlowMatchPairScheduler,
        video_dit: WanModel | None,
        video_dit_2: WanModel | None,
        audio_dit: WanAudioModel,
        dual_tower_bridge: DualTowerConditionalBridge,
        audio_vae_type: str = "dac",
        boundary_ratio: float = 0.9,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            video_vae=video_vae,
            audio_vae=audio_vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            video_dit=video_dit,
            video_dit_2=video_dit_2,
            audio_dit=audio_dit,
            dual_tower_bridge=dual_tower_bridge,
        )
        self.defaults = Defaults(**(defaults or {}))
        # Who runs the forwards; None: this pipeline's own modules, where they are. A streamer takes this place.
        self.engine: Engine | None = None
        self._interrupt = False
        self._vaes_are_finite = False

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        torch_dtype: Dtypes = None,
        *,
        device: torch.device | str = "cpu",
        skip: Collection[str] = (),
        progress: LoadProgress | None = None,
        **hub: Any,
    ) -> MovaPipeline:
        """Load a checkpoint in the released layout. Nothing in it is imported or executed.

        Args:
            pretrained_model_name_or_path: a folder, a hub id, or a short name: nano, 360p, 720p.
            torch_dtype: for all components (the audio VAE stays float32, as the original runs it), or per component, with
                "default" for the rest. None keeps what the files have.
            device: where the weights go.
            skip: components to leave out, for example text_encoder when prompt_embeds are given.
            progress: called as (component, bytes done, bytes in all) while weights arrive.
            hub: what `phonofilm.models.hub.resolve_model` takes: revision, cache_dir, local_files_only, token.

        Raises:
            CheckpointError: naming what is missing, unknown, misshapen, truncated or unsafe, before weights are read.
        """
        arguments = pretrained.pipeline_arguments(
            pretrained_model_name_or_path, torch_dtype, device=device, skip=skip, progress=progress, **hub
        )
        return cls(**arguments)

    def save_pretrained(
        self, save_directory: str | Path, *, max_shard_size: int | str = "5GB", overwrite: bool = False
    ) -> None:
        """Write a checkpoint in the original's layout and names, which other MOVA tools open. Whole, or not at all."""
        pretrained.save_pipeline(self, save_directory, max_shard_size, overwrite)

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` from a step callback to stop; what is made so far is decoded."""
        return self._interrupt

    @property
    def default_geometry(self) -> ClipGeometry:
        """The sizes of a clip with no size set, in this checkpoint's units."""
        expert = self.video_dit if self.video_dit is not None else self.video_dit_2
        return ClipGeometry(
            height=self.defaults.height,
            width=self.defaults.width,
            num_frames=self.defaults.num_frames,
            frame_rate=parse_frame_rate(self.defaults.frame_rate),
            spatial_factor=self.video_vae.config.scale_factor_spatial,
            temporal_factor=self.video_vae.config.scale_factor_temporal,
            sampling_rate=self.audio_vae.config.sample_rate,
            hop_length=math.prod(self.audio_vae.config.encoder_rates),
            patch=expert.config.patch_size[-1],
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | None = None,
        *,
        image: Picture | Sequence[Picture] | None = None,
        last_image: Picture | None = None,
        video: Clip | None = None,
        audio: Clip | tuple[np.ndarray, int] | None = None,
        continue_from: Clip | None = None,
        overlap_frames: int = edit_tasks.OVERLAP_FRAMES,
        retake: tuple[float, float] | None = None,
        retake_tracks: edit_tasks.RetakeTracks = "both",
        image_fit: Fit = "crop",
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | Fraction | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        modality_scale: float | Sequence[float] | None = None,
        guidance_interval: tuple[float, float] = EVERY_STEP,
        solver: str = DEFAULT_SOLVER,
        cache: str = NO_CACHE,
        bridge_scale: float = 1.0,
        video_shift: float | None = None,
        audio_shift: float | None = None,
        boundary_ratio: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        audio_latents: Tensor | None = None,
        prompt_embeds: Text | None = None,
        negative_prompt_embeds: Text | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[MovaPipeline, int, float, dict[str, Tensor]], dict[str, Tensor]] | None = None,
        remove_video_dit: bool = False,
    ) -> MovaPipelineOutput:
        """Make clips.

        Args:
            prompt: one prompt or several; up to 512 tokens each. `prompt_embeds` may stand in for it.
            negative_prompt: what guidance leads away from; the release's own by default.
            image: the first frame, fitted to the size by `image_fit` ("crop" or "letterbox"); one for all prompts or one
                each. Without any, a white frame stands for "no picture given", as the model's authors do.
            last_image: the last frame.
            video: a clip that wants sound. Its frames are kept; size, rate and length follow it.
            audio: a sound that wants a picture, as a Clip or (float [channels, samples], samples per second); kept as it is.
            continue_from: a clip to go on from, holding its last `overlap_frames`; the result is the longer clip.
            retake: (start, end) seconds of `video` to make anew, in the `retake_tracks` "both", "video" or "audio".
            height, width: pixels, multiples of 16. num_frames: 1 + a multiple of 4. frame_rate: per second, 1 to 240.
            guidance_scale, audio_guidance_scale: s_T per modality (audio follows video when not given); 1 is off.
            modality_scale: s_B, how strongly each track follows the other; a number or values spread over the steps.
            guidance_interval: (start, end), fractions of the steps: only those are guided, the others take one forward.
            solver: "euler", "ab2", "dpmpp_2m" or "unipc"; one velocity a step each (`phonofilm.pipeline.solvers`).
            cache: "easy:0.05" skips steps at which neither track's velocity should change by more than that share.
            bridge_scale: factor on what the bridge adds to either track; 0 cuts it, so that each is made without the other.
            video_shift, audio_shift: shift of each modality's schedule; the checkpoint's by default.
            boundary_ratio: video timesteps from here (x 1000) up use the high-noise expert.
            generator: one seed, one clip. Clip i of a single generator has its initial seed + i; a sequence gives each one.
            latents, audio_latents: start noise [b,c,f,h,w] and [b,c,t] instead of drawn noise.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: called after a step as (pipeline, index, timestep, latents by name); may change them.
            remove_video_dit: drop the high-noise expert from memory once the low-noise one takes over.

        Returns MovaPipelineOutput, or (frames, audio) with return_dict=False.
        Raises InputError, before anything long runs, when the request cannot be met.
        """
        self._interrupt = False
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type {output_type!r} is unknown; use one of {', '.join(OUTPUT_TYPES)}")
        rate = None if frame_rate is None else parse_frame_rate(frame_rate)
        task = request.plan_clip(
            request.Tracks(video, audio, continue_from, overlap_frames, retake, retake_tracks),
            request.Sizes(height, width, num_frames, rate),
            self.default_geometry,
        )
        steps = self.scheduler.steps(
            self.defaults.num_inference_steps if num_inference_steps is None else num_inference_steps,
            video_shift,
            audio_shift,
        )
        guidance = guidance_per_step(
            len(steps),
            self.defaults.guidance_scale if guidance_scale is None else guidance_scale,
            audio_guidance_scale,
            self.defaults.modality_scale if modality_scale is None else modality_scale,
            guidance_interval,
        )
        integrator, threshold = PairSolver(solver), parse_cache(cache)
        prompts = request.count_prompts(prompt, prompt_embeds)
        clips = prompts * request.positive(num_videos_per_prompt, "num_videos_per_prompt")
        pictures = request.first_frames(image, task, image_fit, prompts)
        last = None if last_image is None else request.frame_tensor(last_image, task.geometry, image_fit)
        generators = request.clip_generators(generator, clips)
        if not self._vaes_are_finite:
            for name in ("video_vae", "audio_vae"):
                require_finite_weights(name, getattr(self, name))
            self._vaes_are_finite = True
        device = self._execution_device
        channels = (self.video_vae.config.z_dim, self.audio_dit.config.in_dim)
        noise = request.start_noise(task.geometry, channels, generators, latents, audio_latents, device)

        negative = self.defaults.negative_prompt if negative_prompt is None else negative_prompt
        text = conditions.texts_needed(
            self.encode_prompt,
            (prompt or "") if prompt_embeds is None else prompt_embeds,
            negative if negative_prompt_embeds is None else negative_prompt_embeds,
            guidance,
            clips,
        )
        condition = torch.cat(
            [conditions.frame_condition(self.video_vae, task.geometry, device, first, last) for first in pictures]
        )
        condition = condition.repeat_interleave(clips // len(pictures), 0)
        known_video = conditions.known_video(self.video_vae, task, clips, device)
        known_audio = conditions.known_audio(self.audio_vae, task, clips, device)
        steps = clean_where_known(steps, known_video, known_audio)
        experts = self._experts(boundary_ratio, remove_video_dit)
        phases = [experts.name_at(step.video.timestep) for step in steps]
        velocity = ExpertVelocity(
            experts,
            self.engine or Resident(experts),
            steps,
            task.geometry,
            condition,
            {evaluation: model_text(embeds, device) for evaluation, embeds in text.items()},
            bridge_scale,
        )
        cached = None if threshold is None else StepCache(velocity, threshold, phases)
        with self.progress_bar(total=len(steps)) as bar:

            def on_step(step: Step, now: Latents) -> tuple[Latents, bool]:
                bar.update()
                if step.index == 0:
                    require_finite("the clip after its first step", now.video, now.audio)
                if callback_on_step_end is not None:
                    tensors = {"latents": now.video, "audio_latents": now.audio}
                    tensors |= callback_on_step_end(self, step.index, step.video.timestep, tensors) or {}
                    now = Latents(tensors["latents"], tensors["audio_latents"])
                return now, self._interrupt

            clean = sample(
                velocity if cached is None else cached,
                noise,
                steps,
                guidance,
                known_video=known_video,
                known_audio=known_audio,
                solver=integrator,
                phases=phases,
                on_step=on_step,
            )
        require_finite("the sampled clip", clean.video, clean.audio)
        out = self._finish(task, clean, output_type)
        out.forwards, out.steps_skipped = velocity.forwards, 0 if cached is None else cached.skipped
        self.maybe_free_model_hooks()
        return out if return_dict else (out.frames, out.audio)  # type: ignore[return-value] # diffusers' convention

    def encode_prompt(self, prompts: Sequence[str], what: str = "prompt") -> Text:
        """Embeddings of the prompts. Raises InputError for an empty prompt or one of more than 512 tokens."""
        if self.text_encoder is None or self.tokenizer is None:
            raise InputError(
                "this pipeline was loaded without its text encoder; give prompt_embeds instead of a prompt"
            )
        ids, mask = conditions.tokenize(self.tokenizer, prompts, what)
        return conditions.encode_text(self.text_encoder, ids, mask, self._execution_device)

    def _experts(self, boundary_ratio: float | None, remove_video_dit: bool) -> Experts:
        ratio = self.config.boundary_ratio if boundary_ratio is None else boundary_ratio
        boundary = ratio * self.scheduler.config.num_train_timesteps

        def release() -> None:
            self.video_dit = None
            self.forget_component("video_dit")
            if self.engine is not None:
                self.engine.release("high")

        high, low = self.video_dit, self.video_dit_2
        removes = release if remove_video_dit and low is not None else None
        return Experts(high, low, self.audio_dit, self.dual_tower_bridge, boundary, removes)

    def _finish(self, task: EditTask, clean: Latents, output_type: str) -> MovaPipelineOutput:
        geometry = task.geometry
        if output_type == "latent":
            return MovaPipelineOutput(clean.video, clean.audio, geometry.sampling_rate, geometry.frame_rate)
        frames = decode.decode_video(self.video_vae, clean.video)
        sound = decode.decode_audio(self.audio_vae, clean.audio, geometry)
        made = [task.join(Decoded(f, s, geometry.sampling_rate)) for f, s in zip(frames, sound, strict=True)]
        return MovaPipelineOutput(*decode.to_output_type(made, output_type), made[0].sampling_rate, geometry.frame_rate)
