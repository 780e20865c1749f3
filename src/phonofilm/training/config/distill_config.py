"""The section `distill` of a fine-tuning's config: a student of few steps learns to do what the model does in many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, model_validator

from phonofilm.training.config.training_config import Positive, Strict


class StoredConfig(Strict):
    """The warm start: states of whole clips of the teacher, made once, and learnt from over and over.

    `updates`: so many at the beginning (0: none). `trajectories`: clips that are stored, in float16 in the run's folder.
    `substeps`: the teacher's steps in each of the student's.
    """

    updates: Annotated[int, Field(ge=0)] = 0
    trajectories: Annotated[int, Field(ge=1)] = 512
    substeps: Annotated[int, Field(ge=1)] = 6

    @model_validator(mode="after")
    def _used(self, info: ValidationInfo) -> Self:
        saved = bool(info.context and info.context.get("saved"))
        if not saved and self.updates == 0 and self.model_fields_set & {"trajectories", "substeps"}:
            raise ValueError(
                "distill.stored.updates is 0, so distill.stored.trajectories and substeps would be ignored; for no warm "
                "start at all say distill.stored={}"
            )
        return self


class DistillConfig(Strict):
    """Trajectory imitation: the model without its adapters is the teacher, with them the student.

    After the warm start the student samples from fresh noise up to one of its steps; the teacher goes on from there in
    `substeps` guided steps to the end of that step; the student's velocity is trained towards the mean velocity between.

    Attributes:
        steps: the student's, one forward each. Its grid is the checkpoint's own for so many steps.
        substeps: the teacher's in one of them.
        guidance_scale, audio_guidance_scale, modality_scale: the teacher's; null: the checkpoint's own.
        negative_prompt: the teacher's; null: the checkpoint's own.
        captions: a file of captions to learn from instead of clips: .txt, one a line, or .jsonl with "caption" and, if
            wanted, "image" (first frame) and "last_image".
        stored: the warm start.
    """

    steps: Annotated[int, Field(ge=1, le=100)] = 4
    substeps: Annotated[int, Field(ge=1)] = 3
    guidance_scale: Positive | None = None
    audio_guidance_scale: Positive | None = None
    modality_scale: Positive | None = None
    negative_prompt: str | None = None
    captions: Path | None = None
    stored: StoredConfig = StoredConfig()
