"""Few steps in a plan: when a checkpoint's own student is taken, and what distilled LoRAs ask of the sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from phonofilm.errors import CheckpointError
from phonofilm.generation.loras import LoraUse
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.provenance import OWN_STUDENT
from phonofilm.lora.strength import NO_LORA
from phonofilm.pipeline.few_step_loras import few_steps_of_loras, uncovered_parts, wan_name
from phonofilm.pipeline.few_steps import FewSteps
from phonofilm.pipeline.sampling_plan import ModelFacts, SamplingOptions

if TYPE_CHECKING:
    from phonofilm.generation.checkpoint import Checkpoint


def with_own_student(options: ClipOptions, sampling: SamplingOptions, checkpoint: Checkpoint) -> ClipOptions:
    """The options, which name no LoRA, with the checkpoint's own student of few steps where nothing speaks against it.

    Any option that is not as the student has it means the model itself, as do a negative prompt, for which the student has
    no use, and the LoRA "none". `sampling`: the options for sampling.
    """
    if options.negative_prompt is not None:
        return options
    try:
        (student,) = checkpoint.loras.take((OWN_STUDENT,))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; lora={NO_LORA} is the model without its student") from error
    few = few_steps_of((student,))
    if few is None:
        return options
    own = SamplingOptions(**few.call_arguments())
    against = [name for name, value in vars(sampling).items() if value not in (None, getattr(own, name))]
    return options if against else replace(options, lora=(OWN_STUDENT,))


def few_steps_of(loras: Sequence[LoraUse]) -> FewSteps | None:
    """What these LoRAs must be sampled with; one at strength 0 asks for nothing."""
    return few_steps_of_loras({use.name: use.lora for use in loras if use.strengths != {0}})


def weakened_students(loras: Sequence[LoraUse]) -> list[str]:
    """Of each distilled LoRA that works at another strength than 1, what that means."""
    return [
        f"{use.summary}: its few steps were learnt at strength 1, and at another it is neither the student nor the teacher; "
        "leave the strength out"
        for use in loras
        if use.strengths not in ({0}, {1}) and few_steps_of((use,)) is not None
    ]


def facts_with(facts: ModelFacts, loras: tuple[LoraUse, ...]) -> ModelFacts:
    """The checkpoint's facts with the settings that these LoRAs were distilled for."""
    few = few_steps_of(loras)
    return facts if few is None else replace(facts, few_steps=few)


def few_step_summary(loras: tuple[LoraUse, ...]) -> list[str]:
    """What a plan's line says of distilled LoRAs: those known by their names alone, and parts that none of them reaches."""
    at_work = {use.name: use.lora for use in loras if use.strengths != {0}}
    words = [word for name, lora in at_work.items() if (word := wan_name(lora, name)) is not None]
    parts = uncovered_parts(at_work)
    return [
        *(f"taken for a few-step LoRA of Wan by its name, {word}" for word in words),
        *([f"few-step LoRA without {', '.join(parts)}: undistilled there"] if parts else []),
    ]
