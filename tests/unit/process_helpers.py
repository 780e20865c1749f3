"""Runs of several processes that train one tiny model, and what they ended with."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.unit.finetune_helpers import ALL_PARTS, Ground
from tests.unit.training_ranks import main

from phonofilm.training.checkpointing.run_folder import latest_checkpoint
from phonofilm.training.checkpointing.sharded_files import SavedWeights, is_sharded_checkpoint
from phonofilm.training.checkpointing.snapshot import load_snapshot

SETTINGS: dict[str, Any] = {
    "lora": ALL_PARTS,
    "max_steps": 6,
    "precision": "no",
    "gradient_checkpointing": False,
    "checkpoint_every": 0,
    "ema_decay": 0.9,
    "objective": {"bridge_dropout": 0.5},
    # AdamW's own eps makes whole steps of gradients that are nothing but rounding, which differs between machines.
    "optimizer": {"lr": 0.01, "eps": 1e-3, "warmup": 2, "schedule": "cosine"},
}


def run_processes(world: int, plan: list[dict[str, Any]], ground: Ground, folder: Path) -> Path:
    """The plan of training_ranks.py in so many processes; returns the folder of its runs."""
    # The store by which they find each other is here: a free port that they were told of could be taken by then.
    store = dist.TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    port = store.port
    about = (str(ground.checkpoint), str(ground.cache), str(folder), json.dumps(plan))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([main.__module__])  # what they import, they import once
    running = [context.Process(target=main, args=(rank, world, port, *about)) for rank in range(world)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * world
    return folder


def facts(output: Path, run: str, world: int = 2) -> list[dict[str, Any]]:
    return [json.loads((output / f"{run}.rank{rank}.json").read_text()) for rank in range(world)]


def learnt(folder: Path) -> dict[str, torch.Tensor]:
    """The weights a run ended with, averaged where they lie in parts and an average was kept."""
    path = latest_checkpoint(folder)
    return dict(SavedWeights(path)) if is_sharded_checkpoint(path) else load_snapshot(path).weights


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Weights after a few updates, which moved them by about 1e-3; noise of 1e-6 in the gradients, by less than 1e-6."""
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.allclose(ours[name], weight, rtol=1e-4, atol=5e-6), name
