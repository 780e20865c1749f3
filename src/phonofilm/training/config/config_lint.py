"""Which keys of a fine-tuning's config were given though they cannot change anything: each is an error, with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from phonofilm.training.config.finetune_config import FinetuneConfig

FROM_CHECKPOINT = ("train_steps", "sigma_min", "extra_one_step", "boundary_ratio")


def ignored_keys(config: FinetuneConfig) -> dict[str, str]:
    """Dotted keys that were given and would be ignored, and why."""
    given = set(_given(config, ""))
    return {key: why for key, why in _idle(config) if key in given}


def _given(section: BaseModel, prefix: str) -> Iterator[str]:
    """Dotted names of all keys that were given a value, not null."""
    for name in section.model_fields_set:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _given(value, f"{prefix}{name}.")
        if value is not None:
            yield f"{prefix}{name}"


def _idle(config: FinetuneConfig) -> Iterator[tuple[str, str]]:
    """Every key that has no effect under the rest of this config."""
    way = "lora" if config.lora is not None else "full"
    for alone, other in (("high", "low"), ("low", "high"), ("both-as-one", "low")):
        if config.experts == alone:
            yield f"{way}.{other}", f"experts is {alone}; set {way}.{other}=null"
    if config.experts != "weighted":
        yield "high_share", "experts is not weighted"
    if config.experts not in ("alternate", "weighted"):
        yield "turn_updates", f"experts is {config.experts}, so there are no turns"
    if config.context_parallel == 1:
        yield "ulysses_degree", "context_parallel is 1, so no clip is shared"
    yield from _idle_optimizer(config)
    yield from _idle_timesteps(config)
    yield from _idle_data(config)
    if config.distill is not None:
        yield from _idle_distill(config)
    for part in ("audio", "bridge"):
        if getattr(config.lora, part, None) is not None and part == "bridge":
            yield f"lora.{part}.ffn", "the bridge has no feed-forward layers"
    if config.full is not None:
        yield "base_dtype", "no weight is frozen under full"


def _idle_optimizer(config: FinetuneConfig) -> Iterator[tuple[str, str]]:
    name = config.optimizer.name
    yield "optimizer.scale", "rates of parts are lora.PART.lr or full.PART.lr"
    if name != "muon":
        for key in ("muon_lr", "momentum"):
            yield f"optimizer.{key}", f"optimizer.name is {name}"
    if name == "adafactor":
        yield "optimizer.betas", "adafactor has none"
        yield "optimizer.eps", "adafactor has its own two"
    if name == "prodigy":
        for way in ("lora", "full"):
            for part in ("high", "low", "audio", "bridge"):
                yield f"{way}.{part}.lr", "prodigy has one rate for everything; leave it out"


def _idle_timesteps(config: FinetuneConfig) -> Iterator[tuple[str, str]]:
    timesteps = config.objective.timesteps
    for key in FROM_CHECKPOINT:
        yield f"objective.timesteps.{key}", "it is the checkpoint's own"
    if timesteps.density != "logit_normal":
        for key in ("logit_mean", "logit_std"):
            yield f"objective.timesteps.{key}", f"the density is {timesteps.density}"
    if timesteps.density != "mode":
        yield "objective.timesteps.mode_scale", f"the density is {timesteps.density}"


def _idle_data(config: FinetuneConfig) -> Iterator[tuple[str, str]]:
    if config.distill is not None and config.distill.captions is not None:
        for key in ("windows", "count", "seed", "silent"):
            yield f"data.{key}", "distill.captions has no clips"
    elif not config.data.sets:
        for key in ("buckets", "frame_rate", "windows", "count", "seed", "silent"):
            yield f"data.{key}", "no clips were given, and the cache is used as it is"
    if config.data.windows != "random":
        yield "data.seed", "windows are not random"
    if config.data.windows == "head":
        yield "data.count", "a clip has one head"


def _idle_distill(config: FinetuneConfig) -> Iterator[tuple[str, str]]:
    for key in ("mode", "density", "logit_mean", "logit_std", "mode_scale"):
        yield f"objective.timesteps.{key}", "a distillation learns at the student's own steps"
    for key in ("caption_dropout", "bridge_dropout", "unconditional_dropout"):
        yield f"objective.{key}", "a student of distill has no guidance, so nothing is hidden from it"
    yield "turn_updates", "with distill experts take turns from one micro-step to the next"
