"""A run's state besides its weights, as saved and as put back: optimizers, random state, config, time. No files here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from phonofilm.errors import CheckpointError, InputError
from phonofilm.training.config.training_config import LoopConfig

FREE_TO_CHANGE = frozenset({"log_every", "checkpoint_every", "keep_last", "tensorboard", "wandb", "samples"})
CONTENT = "data.content"
PROCESSES = "processes"


def run_state(
    accelerator: Accelerator, config: LoopConfig, content: str, optimizers: list[Any], elapsed: float
) -> dict[str, Any]:
    """Everything but the weights and their average."""
    cuda = accelerator.device.type == "cuda"
    return {
        "elapsed": elapsed,
        "config": config.model_dump(mode="json"),
        "content": content,
        "processes": accelerator.num_processes,
        "optimizers": optimizers,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if cuda else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
    }


def refuse_other_run(
    state: dict[str, Any], config: LoopConfig, content: str | None, processes: int, allow: Collection[str]
) -> None:
    """Raises CheckpointError when config, data or number of processes differ, in a key that `allow` does not name.

    `content`: the data's hash; None where it is not known yet.
    """
    # Keys that are newer than the checkpoint take their defaults.
    before = type(config).model_validate(state["config"], context={"saved": True}).model_dump(mode="json")
    now = config.model_dump(mode="json")
    if content is not None:
        before[CONTENT], now[CONTENT] = state.get("content", content), content
    _refuse_unknown_keys(allow, {*_flat(before), *_flat(now), CONTENT, PROCESSES})
    refuse_config_changes(before, now, FREE_TO_CHANGE | set(allow))
    if state["processes"] != processes and PROCESSES not in allow:
        raise CheckpointError(
            f"the run used {state['processes']} processes and now has {processes}; use as many, or allow processes: it "
            "then goes on with the same weights, and other clips than it would have had"
        )


def _refuse_unknown_keys(allow: Collection[str], known: Collection[str]) -> None:
    """Raises InputError for a name that is allowed to change, and that nothing in the run goes by."""
    for name in allow:
        if not any(key == name or key.startswith(f"{name}.") for key in known):
            raise InputError(
                f"{name} is no key of the config, so it cannot be allowed to change; expected a key such as optimizer.lr, "
                f"a section, {CONTENT} or {PROCESSES}"
            )


def restore(accelerator: Accelerator, state: dict[str, Any], optimizers: Sequence[Any]) -> None:
    """Put optimizers and random state back; rates and the like stay as they are configured now.

    A checkpoint in shards has the optimizers beside its weights and none in its state.
    """
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True) if state["optimizers"] else ():
        settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, setting in zip(optimizer.param_groups, settings, strict=True):
            group.update(setting)
    torch.set_rng_state(state["random"])
    if state["random_cuda"] is not None and accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(state["random_cuda"])
    if state["scaler"] is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


def refuse_config_changes(before: dict[str, Any], now: dict[str, Any], allowed: Collection[str]) -> None:
    """Raises CheckpointError when two configs differ in a dotted key that is neither `allowed` to nor below one that is."""
    old, new = _flat(before), _flat(now)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    refused = [key for key in changed if not any(key == name or key.startswith(f"{name}.") for name in allowed)]
    if refused:
        raise CheckpointError(
            f"the config changed since the checkpoint in {', '.join(refused)}; "
            "restore it, allow each of these keys to change (--allow KEY), or start a new run folder"
        )


def _flat(section: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections by dotted keys."""
    if not isinstance(section, dict) or not section:
        return {prefix.removesuffix("."): section}
    return {key: value for name, inner in section.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}
