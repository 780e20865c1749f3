"""Which parameter is updated by what, and at which rate over time."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.parallel.sharded_tensors import is_sharded
from phonofilm.training.config.training_config import JointPart, OptimizerConfig
from phonofilm.training.loop.muon import BatchedMuon
from phonofilm.training.loop.precision import INSIDE_A_BLOCK

NO_DECAY = re.compile(r"(embed_tokens|shared|relative_attention_bias|modulation|norm)")


def joint_part_of(name: str) -> JointPart:
    """The component a parameter of a joint model belongs to, from its name: `high.video.blocks.0...` -> video."""
    for component in ("video", "audio", "bridge", "text"):
        if component in name.split(".")[:2]:
            return component
    raise InputError(f"parameter {name} belongs to none of video, audio, bridge, text")


def is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon may have it: a matrix that maps hidden states to hidden states. Embeddings and heads are not."""
    return parameter.ndim == 2 and bool(INSIDE_A_BLOCK.search(name)) and "relative_attention_bias" not in name


def build_optimizers(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig, scale_of: dict[str, float] | None = None
) -> list[torch.optim.Optimizer]:
    """The configured optimizer over `named`; with Muon also AdamW for what Muon cannot take.

    `scale_of` multiplies a parameter's rate by its name (absent = 1).

    Every group keeps its own full rate under "base_lr", which `set_rate` scales.
    """
    groups: dict[tuple[bool, float, float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        decay = config.weight_decay if parameter.ndim >= 2 and not NO_DECAY.search(name) else 0.0
        muon = config.name == "muon" and is_block_matrix(name, parameter)
        # One call updates a group, and takes either parts of weights or whole ones.
        groups[muon, (scale_of or {}).get(name, 1.0), decay, is_sharded(parameter)].append(parameter)
    if not groups:
        raise InputError("nothing to train: no parameter requires a gradient")
    adam: list[dict[str, object]] = []
    matrices: list[dict[str, object]] = []
    for (muon, scale, decay, _), parameters in groups.items():
        rate = scale * (config.muon_lr if muon else config.lr)
        group = {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        (matrices if muon else adam).append(group)
    optimizers: list[torch.optim.Optimizer] = []
    if adam:
        optimizers.append(_plain(adam, config))
    if matrices:
        optimizers.append(BatchedMuon(matrices, momentum=config.momentum))
    return optimizers


def _plain(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of that name. Raises MissingExtraError when its library is not installed."""
    optimizer: torch.optim.Optimizer
    match config.name:
        case "adamw" | "muon":
            optimizer = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
        case "adafactor":
            from transformers.optimization import Adafactor

            optimizer = Adafactor(groups, relative_step=False, scale_parameter=False, warmup_init=False)
        case "adamw8bit":
            try:
                from bitsandbytes.optim import AdamW8bit
            except ImportError as error:
                raise MissingExtraError("bitsandbytes", "optimizers") from error
            optimizer = AdamW8bit(groups, betas=config.betas, eps=config.eps)
        case "prodigy":
            try:
                from prodigyopt import Prodigy
            except ImportError as error:
                raise MissingExtraError("prodigyopt", "optimizers") from error
            optimizer = Prodigy(groups, betas=config.betas, eps=config.eps)
    return optimizer


def set_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Put every group at `factor` times its own full rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def progress(step: int, elapsed: float, max_steps: int | None, budget_seconds: float | None) -> float:
    """How far a run is, 0 to 1, by updates or by time, whichever ends it sooner."""
    by_steps = step / max_steps if max_steps else 0.0
    by_time = elapsed / budget_seconds if budget_seconds else 0.0
    return min(1.0, max(by_steps, by_time))


def rate_factor(config: OptimizerConfig, step: int, done: float) -> float:
    """The share of the full rate for update `step` (from 0) when the run is `done` (0 to 1). Never 0 at the first update."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    match config.schedule:
        case "constant":
            shape = 1.0
        case "linear":
            shape = 1 - (1 - config.final) * done
        case "cosine":
            shape = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done))
    return warm * shape
