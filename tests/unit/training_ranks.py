"""One of several processes of a fine-tuning, started by the tests: trains, and writes what it ended with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch


def main(rank: int, world: int, port: int, checkpoint: str, cache: str, output: str, plan: str) -> None:
    """Run `plan`, a JSON list of {"until", "config"}, each a run of its own that resumes the one before."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    from phonofilm.training.checkpoints import checkpoint_folders, digest
    from phonofilm.training.config_files import parse_config
    from phonofilm.training.trainer import Trainer
    from phonofilm.training.tune_run import prepare
    from phonofilm.training.validation import ValidationLoss, cached_batches

    for part in json.loads(plan):
        told = parse_config({"model": checkpoint, "data": {"cache": cache}, "device": "cpu", **part["config"]}, "test")
        folder = Path(output) / part["folder"]
        task = prepare(told, folder)
        hooks = [
            ValidationLoss(task.model, cached_batches(task.clips, 2, 1), 0.9, every=3, activate=task.residency.activate)
        ]
        trainer = Trainer(task, told, folder, hooks if part.get("validates") else ())
        if checkpoint_folders(folder):
            trainer.resume()
        noise = trainer.turn(0).generator(1).initial_seed()
        rows = trainer.turn(0).first_draw(told.batch_size)
        if part.get("gradients"):
            trainer.accumulate_gradients()
            gradients = {name: p.grad for name, p in trainer.parameters.items() if p.grad is not None}
            torch.save(gradients, folder.with_suffix(f".rank{rank}.pt"))
            continue
        trainer.run(part.get("until"))
        weights = digest({name: p.detach() for name, p in trainer.parameters.items()})
        state = digest([weights, trainer.snapshot().state["optimizers"], trainer.step])
        facts = {"noise": noise, "first": rows, "state": state, "rate": trainer._optimizers[0].param_groups[0]["lr"]}
        folder.with_suffix(f".rank{rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])
