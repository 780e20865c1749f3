"""The pipeline: prompt, pictures and tracks in; frames and sound out. The steps in their order; each has its own file here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry, parse_frame_rate
from phonofilm.media.images import Fit
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.video import WanModel
from phonofilm.pipeline import conditions, edit_tasks, given_media
from phonofilm.pipeline.argument_types import embeddings, pair, positive, texts, whole
from phonofilm.pipeline.call_arguments import ClipSizes, Defaults, Tracks, default_geometry
from phonofilm.pipeline.decode import MovaPipelineOutput, require_output_type
from phonofilm.pipeline.denoising import Engine
from phonofilm.pipeline.few_steps import few_steps_from
from phonofilm.pipeline.finite import require_finite_weights
from phonofilm.pipeline.given_media import GivenClip, GivenSound, Picture
from phonofilm.pipeline.guidance import EVERY_STEP
from phonofilm.pipeline.lora_methods import LoraMethods
from phonofilm.pipeline.noise import clip_generators, start_noise
from phonofilm.pipeline.pretrained import PretrainedMethods
from phonofilm.pipeline.run_plan import TENSOR_INPUTS, StepCallback, run_plan, step_callback
from phonofilm.pipeline.sampling_limits import NO_CACHE
from phonofilm.pipeline.sampling_plan import CallRequest, ModelFacts, SamplingOptions, SamplingPlan, make_plan
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, require_pair_scheduler
from phonofilm.pipeline.solvers import DEFAULT_SOLVER
from phonofilm.pipeline.types import Text, Tokens


class MovaPipeline(PretrainedMethods, LoraMethods, DiffusionPipeline):
    """MOVA: picture and sound of a clip, generated together.

    `video_dit` is the high-noise expert and `video_dit_2` the low-noise one (None for a single-expert checkpoint).
    `defaults` overrides fields of `Defaults` for a checkpoint of another size; `few_steps`: the settings of a distilled one.
    """

    model_cpu_offload_seq = "text_encoder->video_dit->video_dit_2->video_vae->audio_vae"
    _optional_components = ["video_dit", "video_dit_2", "text_encoder", "tokenizer"]  # noqa: RUF012 - diffusers reads a list
    _callback_tensor_inputs = list(TENSOR_INPUTS)  # noqa: RUF012

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,  # diffusers counts positional arguments without those of ignore_for_config
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
        few_steps: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        require_pair_scheduler(scheduler)
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
        self._own_few_steps = None if few_steps is None else few_steps_from(few_steps, "the pipeline")
        self.kept_white: tuple[list[object], Tensor] | None = None  # run_plan's
        # Who runs the forwards; None: this pipeline's own modules, where they are. A streamer takes this place.
        self.engine: Engine | None = None
        self._interrupt = False
        self._vaes_are_finite = False

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` from a step callback to stop; what is made so far is decoded."""
        return self._interrupt

    @property
    def default_geometry(self) -> ClipGeometry:
        """The sizes of a clip with no size set, in this checkpoint's units."""
        expert = self.video_dit if self.video_dit is not None else self.video_dit_2
        return default_geometry(self.defaults, self.video_vae.config, self.audio_vae.config, expert.config)

    @property
    def facts(self) -> ModelFacts:
        """What planning a call needs to know of this pipeline."""
        require_pair_scheduler(self.scheduler)
        return ModelFacts(
            self.default_geometry,
            self.defaults,
            self.scheduler,
            self.config.boundary_ratio,
            1 if self.video_dit_2 is None else 2,
            self.tokenizer,
            self.few_steps or self._own_few_steps,
        )

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | None = None,
        *,
        image: Picture | Sequence[Picture] | None = None,
        last_image: Picture | None = None,
        video: GivenClip | None = None,
        audio: GivenSound | None = None,
        continue_from: GivenClip | None = None,
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
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSOR_INPUTS,
        remove_video_dit: bool = False,
    ) -> MovaPipelineOutput:
        """Make clips.

        Args:
            prompt: one prompt or several; up to 512 tokens each. `prompt_embeds` may stand in for it.
            negative_prompt: what guidance leads away from; the release's own by default.
            image: the first frame, fitted to the size by `image_fit` ("crop" or "letterbox"); one for all prompts or one
                each: a path, an http(s) URL, a PIL picture, an array or a tensor. Without any, a white frame stands for
                "no picture given", as the model's authors do.
            last_image: the last frame.
            video: a clip that wants sound: a path, a Clip, PIL pictures, an array [f,h,w,3] or a tensor [f,3,h,w]. Its
                frames are kept; size, rate and length follow it.
            audio: a sound that wants a picture: a path, a Clip or (float [channels, samples], samples per second).
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
            callback_on_step_end: called after a step as (pipeline, index, timestep, latents by name); may change them. It
                gets those that `callback_on_step_end_tensor_inputs` names.
            remove_video_dit: drop the high-noise expert from memory once the low-noise one takes over.

        Returns MovaPipelineOutput, or (frames, audio) with return_dict=False.
        Raises InputError, before anything long runs, when the request cannot be met.
        """
        facts = self.facts
        require_output_type(output_type)
        if prompt is not None and prompt_embeds is not None:
            raise InputError("prompt and prompt_embeds were both given; give one")
        rate = parse_frame_rate(facts.defaults.frame_rate if frame_rate is None else frame_rate)
        tracks = Tracks(
            None if video is None else given_media.clip(video, "video", rate),
            None if audio is None else given_media.sound(audio),
            None if continue_from is None else given_media.clip(continue_from, "continue_from", rate),
            whole(overlap_frames, "overlap_frames", edit_tasks.OVERLAP_FRAMES),
            retake=None if retake is None else pair(retake, "retake", (1.5, 2.5)),
            retake_tracks=retake_tracks,
        )
        sampling = SamplingOptions(
            None if num_inference_steps is None else whole(num_inference_steps, "num_inference_steps", 50),
            guidance_scale,
            audio_guidance_scale,
            modality_scale,
            pair(guidance_interval, "guidance_interval", (0, 0.6)),
            solver,
            cache,
            bridge_scale,
            video_shift,
            audio_shift,
            boundary_ratio,
        )
        plan = make_plan(
            CallRequest(
                embeddings(prompt_embeds, "prompt_embeds") or texts(prompt, "prompt"),
                embeddings(negative_prompt_embeds, "negative_prompt_embeds")
                or texts(negative_prompt, "negative_prompt"),
                image,
                last_image,
                image_fit,
                tracks,
                ClipSizes(height, width, num_frames, None if frame_rate is None else rate),
                sampling,
                positive(num_videos_per_prompt, "num_videos_per_prompt"),
            ),
            facts,
        )
        plan.warn()
        out = self.run(
            plan,
            generator=generator,
            latents=latents,
            audio_latents=audio_latents,
            output_type=output_type,
            callback_on_step_end=step_callback(callback_on_step_end, callback_on_step_end_tensor_inputs),
            remove_video_dit=remove_video_dit,
        )
        return out if return_dict else (out.frames, out.audio)  # type: ignore[return-value] # diffusers' convention

    def run(
        self,
        plan: SamplingPlan,
        *,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        audio_latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        remove_video_dit: bool = False,
    ) -> MovaPipelineOutput:
        """Make the clips of a ready plan. The arguments are those of the call."""
        self._interrupt = False
        noise = start_noise(
            plan.task.geometry,
            (self.video_vae.config.z_dim, self.audio_dit.config.in_dim),
            clip_generators(generator, plan.clips),
            latents,
            audio_latents,
            self._execution_device,
        )
        self.require_finite_vaes()
        try:
            with torch.no_grad():
                return run_plan(self, plan, noise, output_type, callback_on_step_end, remove_video_dit)
        finally:
            self.maybe_free_model_hooks()

    def require_finite_vaes(self) -> None:
        """Raises PhonofilmError when a weight of a VAE is NaN or infinite; looks once."""
        if not self._vaes_are_finite:
            require_finite_weights("video_vae", self.video_vae)
            require_finite_weights("audio_vae", self.audio_vae)
            self._vaes_are_finite = True

    def encode_prompt(self, prompts: str | Sequence[str], what: str = "prompt") -> Text:
        """Embeddings of the prompts. Raises InputError for one of more than 512 tokens."""
        if self.tokenizer is None:
            raise InputError("this pipeline was loaded without its tokenizer; give prompt_embeds instead of a prompt")
        return self.encode_tokens(
            conditions.tokenize(self.tokenizer, [prompts] if isinstance(prompts, str) else prompts, what)
        )

    def encode_tokens(self, tokens: Tokens) -> Text:
        """Embeddings of prompts that are tokens already."""
        if self.text_encoder is None:
            raise InputError(
                "this pipeline was loaded without its text encoder; give prompt_embeds instead of a prompt"
            )
        return conditions.encode_text(self.text_encoder, tokens, self._execution_device)

    def __repr__(self) -> str:
        """One line: the networks' size, precision and device, instead of diffusers' table of components."""
        networks = [one for one in self.components.values() if isinstance(one, torch.nn.Module)]
        weights = [weight for network in networks for weight in network.parameters()]
        size = sum(weight.numel() * weight.element_size() for weight in weights)
        experts = "one expert" if self.video_dit_2 is None else "two experts"
        dtype = str(self.video_vae.dtype).removeprefix("torch.")
        return f"MovaPipeline({experts}, {size / 1e9:.3g} GB, {dtype} on {self.device})"
