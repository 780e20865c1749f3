"""How a fine-tuning is watched: its samples and its validation. Sections of the YAML; docs/training.md explains each key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, model_validator

from phonofilm.training.config.training_config import Positive, Strict


class PreviewConfig(Strict):
    """A clip that is sampled again and again: its prompt, its first frame (a picture's file; null: text alone), its seed."""

    prompt: Annotated[str, Field(min_length=1)]
    image: Path | None = None
    seed: int = 0


class SamplesConfig(Strict):
    """Samples with sound at the start, every so many updates (0: none) and at the end.

    `prompts`: by default the captions of the first two clips, without a first frame. Sizes are those of the first bucket,
    and what is null is the checkpoint's own.
    """

    every: Annotated[int, Field(ge=0)] = 200
    prompts: tuple[PreviewConfig, ...] = ()
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: Positive | None = None
    modality_scale: Positive | None = None


class ValidationConfig(Strict):
    """Losses at fixed noise, every so many updates (0: none).

    `sets`: folders or manifests of clips that are not trained on. Without them the first training clips are scored, which
    shows that something is learnt, but not when it is learnt by heart. `clips`: at most so many.
    """

    every: Annotated[int, Field(ge=0)] = 200
    sets: tuple[Path, ...] = ()
    clips: Annotated[int, Field(ge=1)] = 16

    @model_validator(mode="after")
    def _used(self, info: ValidationInfo) -> Self:
        # A saved config names every key, so none of them says anything by being there.
        saved = bool(info.context and info.context.get("saved"))
        if not saved and self.every == 0 and self.model_fields_set & {"sets", "clips"}:
            raise ValueError("validation.every is 0, so validation.sets and clips would be ignored")
        return self
