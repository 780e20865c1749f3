"""Who looks on while a checkpoint is fine-tuned: validation and samples, made from the config, the task and the checkpoint."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from phonofilm.data.encoders import Encoders
from phonofilm.data.windows import parse_bucket
from phonofilm.media.clip import Clip
from phonofilm.models.hub import resolve_model
from phonofilm.models.joint import TEXT_LENGTH
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.loading import load_component
from phonofilm.notices import NOTICE
from phonofilm.pipeline.call_arguments import Defaults
from phonofilm.pipeline.decode import decode_video, to_uint8
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.pipeline.types import Latents, Text
from phonofilm.training.config.finetune_config import SetConfig
from phonofilm.training.dry_run.estimate import Estimate, WarmStartCost
from phonofilm.training.dry_run.measure_run import ExpertSwitch, MicroBatchKind, estimate_run
from phonofilm.training.dry_run.stopwatch import Stopwatch
from phonofilm.training.dry_run.warm_start import warm_start_cost
from phonofilm.training.finetune import cached_clips, distill_data
from phonofilm.training.loop.distill_validation import ClipReader, TeacherDistance
from phonofilm.training.loop.previews import Preview, PreviewComponents, SampleHook
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.validation import ValidationLoss, cached_batches
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.distill_task import DistillTask
from phonofilm.training.task.finetune_task import FinetuneTask
from phonofilm.training.task.interface import Hook
from phonofilm.training.task.timesteps import Expert

logger = logging.getLogger(__name__)

USUAL_PREVIEWS = 2
HOST = torch.device("cpu")


def finetune_hooks(task: FinetuneTask, output: Path, reader: ClipReader | None = None) -> tuple[Hook, ...]:
    """The hooks that the task's config asks for. Autoencoders are loaded; the text encoder only until prompts are encoded.

    `reader`: says of a distillation's validation whether picture and sound agree, where it can read such clips.
    """
    layout = read_layout(resolve_model(task.config.model))
    config = task.config
    hooks: list[Hook] = []
    if config.validation.every:
        if isinstance(task, DistillTask):
            hooks.append(_distance(task, layout, output, reader))
        else:
            hooks.append(_validation(task, layout, output))
    if config.samples.every:
        hooks.append(_samples(task, layout))
    return tuple(hooks)


def finetune_dry_run(task: FinetuneTask, trainer: Trainer, clock: Callable[[], float] = time.perf_counter) -> Estimate:
    """The dry run of a fine-tuning: an update of each bucket, its change of experts, its validation and its samples."""

    def warm_start(watch: Stopwatch) -> WarmStartCost | None:
        return warm_start_cost(task, trainer, watch) if isinstance(task, DistillTask) else None

    return estimate_run(trainer, task.model, _cases(task, trainer), _switching(task), warm_start, clock)


def _cases(task: FinetuneTask, trainer: Trainer) -> dict[str, MicroBatchKind]:
    """The first batch index of each bucket, and the share of micro-batches that are of it.

    A distillation's is that micro-step of the update whose way to the step it learns is nearest to the mean.
    """
    size, first = task.config.batch_size, trainer.batch_index(0)
    shares = {name: sum(entry.weight for entry in rows) for name, rows in task.clips.buckets.items()}
    found: dict[str, MicroBatchKind] = {}
    for step in range(task.config.max_steps or len(task.clips) * 100):
        index = replace(first, step=step)
        if isinstance(task, DistillTask):
            index = replace(index, micro=task.turns.middle_micro(step))
        name = task.clips.bucket_at(index.first_draw(size) // size, size)
        found.setdefault(name, MicroBatchKind(index, shares[name]))
        if len(found) == len(shares):
            break
    return found


def _switching(task: FinetuneTask) -> ExpertSwitch | None:
    if task.config.experts not in ("alternate", "weighted"):
        return None
    steps = range(task.config.max_steps or 1000)
    turns = [task.expert(step) for step in steps]
    changes = sum(before != after for before, after in pairwise(turns))

    def there_and_back() -> None:
        other: Expert = "low" if turns[0] == "high" else "high"
        for expert in (other, turns[0]):
            task.placement.activate(expert)

    return ExpertSwitch(there_and_back, changes / len(steps))


def _validation_clips(task: FinetuneTask, layout: CheckpointLayout, output: Path) -> CachedClips:
    section = task.config.validation
    if not section.sets:
        logger.log(
            NOTICE,
            "validation on training clips; name others with validation.sets to see when they are learnt by heart",
        )
        return task.clips
    sets = tuple(SetConfig(path=path) for path in section.sets)
    changes: dict[str, Any] = {
        "data": task.config.data.model_copy(update={"sets": sets, "cache": output / "cache-validation"})
    }
    if task.config.distill is not None:
        changes["distill"] = task.config.distill.model_copy(update={"captions": None})
    return cached_clips(task.config.model_copy(update=changes), layout, output)


def _distance(task: DistillTask, layout: CheckpointLayout, output: Path, reader: ClipReader | None) -> TeacherDistance:
    clips, section = _validation_clips(task, layout, output), task.config.validation
    data = task.data if clips is task.clips else distill_data(task.config, layout, clips)
    sizes = [parse_bucket(name) for name in clips.buckets]
    if reader is None or not all(reader.fits(size.height, size.width) for size in sizes):
        return TeacherDistance(task, data, section.clips, every=section.every)
    decoded = ClipDecoder(layout, clips.index.rate)

    def read(made: Sequence[Latents]) -> Mapping[str, float]:
        return reader([clip for latents in made for clip in decoded(latents)])

    return TeacherDistance(task, data, section.clips, every=section.every, read=read)


class ClipDecoder:
    """Clips of a checkpoint's latents, on the host: for small ones."""

    def __init__(self, layout: CheckpointLayout, rate: Fraction) -> None:
        self._video: Any = load_component(layout, "video_vae", torch.float32, HOST)
        self._audio: Any = load_component(layout, "audio_vae", torch.float32, HOST)
        self._rate = rate

    def __call__(self, latents: Latents) -> list[Clip]:
        """One clip for each row, its sound as long as its picture."""
        with torch.no_grad():
            pictures = decode_video(self._video, latents.video.float().to(HOST)).permute(0, 1, 3, 4, 2).numpy()
            sounds = [self._audio.decode(one).float().numpy()[0] for one in latents.audio.float().to(HOST).split(1)]
        rate = int(self._audio.sampling_rate)
        clips = [
            Clip(to_uint8(picture), self._rate, sound, rate) for picture, sound in zip(pictures, sounds, strict=True)
        ]
        return [clip.trimmed_to_picture() for clip in clips]


def _validation(task: FinetuneTask, layout: CheckpointLayout, output: Path) -> ValidationLoss:
    section, clips = task.config.validation, _validation_clips(task, layout, output)
    return ValidationLoss(
        task.model,
        cached_batches(clips, section.clips, task.config.batch_size),
        task.objective.timesteps.boundary_ratio,
        every=section.every,
        activate=task.placement.activate,
    )


def _samples(task: FinetuneTask, layout: CheckpointLayout) -> SampleHook:
    section = task.config.samples
    previews = tuple(_previews(task))
    defaults = layout.scalars.defaults or {}
    given = {
        "num_inference_steps": section.steps,
        "guidance_scale": section.guidance_scale,
        "modality_scale": section.modality_scale,
    }
    texts = _texts(layout, [*(preview.prompt for preview in previews), Defaults(**defaults).negative_prompt])
    # On a CPU float32 is the fast one; on a GPU the video autoencoder stays in the dtype of its files.
    video_dtype = None if torch.cuda.is_available() and task.config.device != "cpu" else torch.float32
    studio = PreviewComponents(
        load_component(layout, "video_vae", video_dtype, HOST),
        load_component(layout, "audio_vae", torch.float32, HOST),
        FlowMatchPairScheduler(**layout.scheduler_config),
        layout.scalars.boundary_ratio,
        defaults,
        texts=texts,
    )
    return SampleHook(
        task.model,
        studio,
        previews,
        every=section.every,
        settings={
            **_sizes(task),
            **(task.few_steps.call_arguments() if isinstance(task, DistillTask) else {}),
            **{name: value for name, value in given.items() if value is not None},
        },
        activate=task.placement.activate,
    )


def _previews(task: FinetuneTask) -> Iterator[Preview]:
    given = task.config.samples.prompts
    for number, preview in enumerate(given):
        yield Preview(f"{number:02d}", preview.prompt, preview.image, preview.seed)
    if not given:
        captions = list(dict.fromkeys(entry.caption for entry in task.clips.index.entries))
        for number, caption in enumerate(captions[:USUAL_PREVIEWS]):
            yield Preview(f"{number:02d}", caption, None, number)


def _sizes(task: FinetuneTask) -> dict[str, Any]:
    bucket = parse_bucket(next(iter(task.clips.buckets)))
    return {
        "height": bucket.height,
        "width": bucket.width,
        "num_frames": bucket.frames,
        "frame_rate": task.clips.index.rate,
    }


def _texts(layout: CheckpointLayout, prompts: list[str]) -> dict[str, Text]:
    encoders, texts = Encoders(layout, HOST), {}
    for prompt in prompts:
        embeds = encoders.text(prompt).embeds
        padded = pad(embeds, (0, 0, 0, TEXT_LENGTH - embeds.shape[0]))
        texts[prompt] = Text(padded[None], torch.tensor([embeds.shape[0]]))
    del encoders
    gc.collect()
    return texts
