"""Samples with sound while a model trains: a hook that makes the same few clips now and then, to look at and listen to.

They are made by the pipeline itself, on the very modules that train and with their weights where training has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from phonofilm.media.clip import Clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.media.write import save_clip
from phonofilm.models.joint import JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_one
from phonofilm.pipeline.call_arguments import Defaults
from phonofilm.pipeline.denoising import ExpertName
from phonofilm.pipeline.given_media import Picture
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.pipeline.types import Text
from phonofilm.training.loop.metrics_log import HookResult
from phonofilm.training.loop.validation import resident, training_device
from phonofilm.training.task.interface import HookContext
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.timesteps import Expert


@dataclass(frozen=True)
class Preview:
    """One clip that is made again and again. `name` is its files'; `image` its first frame, None for text alone."""

    name: str
    prompt: str
    image: Picture | None = None
    seed: int = 0


@dataclass(frozen=True)
class PreviewComponents:
    """What a pipeline has besides the trained modules: autoencoders (on the host until they are needed), the schedule.

    `texts`: embeddings of prompts, and of "" or whatever is the negative one, where no text encoder is loaded.
    `defaults`: the checkpoint's sizes and settings, as `Defaults` names them.
    """

    video_vae: Any
    audio_vae: Any
    scheduler: FlowMatchPairScheduler
    boundary_ratio: float
    defaults: Mapping[str, Any]
    tokenizer: Any = None
    texts: Mapping[str, Text] | None = None


class TrainingPipeline(MovaPipeline):
    """The pipeline over a model in training: it computes where the training does, which its own parts need not know."""

    device_of_training = torch.device("cpu")

    @property
    def _execution_device(self) -> torch.device:
        return self.device_of_training


@dataclass
class SampleHook:
    """Makes every preview, always from the same noise, into RUN/samples/step-N: an mp4 with sound and a contact sheet.

    `activate` is called before an expert runs; `settings` are arguments of the pipeline's call. The clips are handed to
    the run's boards as `sample/NAME`.
    """

    model: JointModel
    studio: PreviewComponents
    previews: Sequence[Preview]
    every: int = 200
    settings: Mapping[str, Any] = field(default_factory=dict)
    activate: Callable[[Expert], None] = resident
    name: str = "samples"

    def __call__(self, moment: HookContext) -> HookResult:
        folder = moment.folder / "samples" / f"step-{moment.step:06d}"
        samples: dict[str, float | Clip] = {}
        for preview in self.previews:
            clip = self.make(preview, {"step": moment.step})
            self.write(clip, preview, folder)
            samples[f"sample/{preview.name}"] = clip
        return samples

    @property
    def steps(self) -> int:
        """Sampling steps of a clip."""
        usual = Defaults(**self.studio.defaults).num_inference_steps
        return int(self.settings.get("num_inference_steps", usual))

    def write(self, clip: Clip, preview: Preview, folder: Path) -> None:
        save_clip(clip, folder / f"{preview.name}.mp4")
        contact_sheet(clip, title=preview.prompt).save(folder / f"{preview.name}.png")

    def make(self, preview: Preview, about: Mapping[str, Any], **settings: Any) -> Clip:
        """One clip, with `settings` over the hook's own. The model is left in evaluation mode."""
        self.model.eval()
        device = training_device(self.model)
        with on_device(device, self.studio.video_vae, self.studio.audio_vae):
            pipe = self._pipeline(device)
            generator = torch.Generator().manual_seed(preview.seed)
            texts = self.studio.texts
            prompt = (
                {"prompt": preview.prompt}
                if texts is None
                else {
                    "prompt_embeds": texts[preview.prompt],
                    "negative_prompt_embeds": texts[pipe.defaults.negative_prompt],
                }
            )
            made = pipe(image=preview.image, generator=generator, **prompt, **{**self.settings, **settings})
        return made.clips([{"prompt": preview.prompt, "seed": preview.seed, **about}])[0]

    def _pipeline(self, device: torch.device) -> MovaPipeline:
        high, low, studio = self.model.high, self.model.low, self.studio
        pipe: MovaPipeline = TrainingPipeline(
            video_vae=studio.video_vae,
            audio_vae=studio.audio_vae,
            text_encoder=self.model.text,
            tokenizer=studio.tokenizer,
            scheduler=studio.scheduler,
            video_dit=high.video,
            video_dit_2=None if low is None else low.video,
            audio_dit=high.audio,
            dual_tower_bridge=high.bridge,
            boundary_ratio=studio.boundary_ratio,
            defaults=dict(studio.defaults),
        )
        pipe.device_of_training = device
        pipe.engine = _TrainingEngine(self)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def forwards(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]:
        """The pipeline's engine: one forward after the other, with the expert brought as training brings it.

        Positions are the model's own, for it may compute a share of the tokens only.
        """
        low = self.model.low
        self.activate("both" if low is None else expert)
        denoiser = low if low is not None and expert == "low" else self.model.high
        places = self.model.places(denoiser, inputs.video_latents, inputs.audio_latents, inputs.frame_rate)
        here = replace(inputs, positions=places)
        return [forward_one(denoiser, here, conditioning) for conditioning in conditionings]


class _TrainingEngine:
    """The forwards of training as a pipeline's engine."""

    def __init__(self, training: SampleHook) -> None:
        self._training = training

    def __call__(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]:
        return self._training.forwards(expert, inputs, conditionings, following)

    def release(self, expert: ExpertName) -> None:
        """Training needs both experts."""


@contextmanager
def on_device(device: torch.device, *modules: nn.Module) -> Iterator[None]:
    """The modules on `device` inside, and back where they were afterwards, so that training finds its memory again."""
    before = [next(module.parameters()).device for module in modules]
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module, place in zip(modules, before, strict=True):
            module.to(place)
