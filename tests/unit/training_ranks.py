"""One of several processes of a fine-tuning, started by the tests: trains, and writes what it ended with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from phonofilm.errors import CheckpointError
from phonofilm.parallel.sharded_tensors import is_sharded, local_part
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.checkpointing.run_folder import checkpoint_folders
from phonofilm.training.checkpointing.sharded_files import named_tensors
from phonofilm.training.config.config_files import parse_config
from phonofilm.training.finetune import finetune, prepare_finetune
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.validation import ValidationLoss, cached_batches


def main(rank: int, world: int, port: int, checkpoint: str, cache: str, output: str, plan: str) -> None:
    """Run `plan`, a JSON list of {"folder", "config", ...}: each a run of its own, or the rest of one before in that folder.

    "until": pause there. "allow": keys that may differ. "validates", "breaks": the hooks to have. "gradients": only those.
    "exports": as the command does, with what the user wanted at the end. "poisons": make a weight infinite, then save.
    """
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the store is the test's, rank 0 opens none
    torch.set_num_threads(1)

    for part in json.loads(plan):
        told = parse_config({"model": checkpoint, "data": {"cache": cache}, "device": "cpu", **part["config"]}, "test")
        folder = Path(output) / part["folder"]
        task = prepare_finetune(told, folder)
        hooks = [
            ValidationLoss(task.model, cached_batches(task.clips, 2, 1), 0.9, every=3, activate=task.placement.activate)
        ]
        hooks = hooks if part.get("validates") else [Breaking(task.model)] if part.get("breaks") else []
        if part.get("exports"):
            finetune(task, folder, hooks)
            continue
        trainer = Trainer(task, told, folder, hooks)
        if checkpoint_folders(folder):
            trainer.resume(part.get("allow", ()))
        if part.get("poisons"):
            folder.with_suffix(f".refused{rank}.txt").write_text(refusal(trainer))
            continue
        at_once = count_whole(task.model)
        noise = trainer.batch_index(0).generator(1).initial_seed()
        rows = trainer.batch_index(0).first_draw(told.batch_size)
        if part.get("gradients"):
            trainer.accumulate_gradients()
            gradients = {name: p.grad for name, p in trainer.parameters.items() if p.grad is not None}
            torch.save(gradients, folder.with_suffix(f".rank{rank}.pt"))
            continue
        trainer.run(part.get("until"))
        tensors = digest({name: local_part(tensor) for name, tensor in named_tensors(trainer.tensors).items()})
        state = digest([tensors, trainer.step])
        inside = [p for name, p in task.model.named_parameters() if ".blocks." in name or "conditioners" in name]
        held = sum(local_part(p).numel() for p in inside), sum(p.numel() for p in inside)
        facts = {"noise": noise, "first": rows, "state": state, "rate": trainer._optimizers[0].param_groups[0]["lr"]}
        facts |= {"held": held, "layers": at_once}
        folder.with_suffix(f".rank{rank}.json").write_text(json.dumps(facts))


class Breaking:
    """A hook that fails in the middle of a forward."""

    name, every = "breaking", 2

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, moment: Any) -> dict[str, float]:
        def fail(*_: Any) -> None:
            raise RuntimeError("out of memory, say")

        handle = self.model.high.video.blocks[1].self_attn.register_forward_pre_hook(fail)
        try:
            inputs = torch.zeros(1, 36, 2, 8, 8), torch.zeros(1, 16, 8), torch.ones(1), torch.ones(1)
            self.model.high(*(t.to(torch.float32) for t in inputs), torch.zeros(1, 4, 64), 24.0)
        finally:
            handle.remove()
        return {}


def refusal(trainer: Any) -> str:
    """What saving says when one number of one process's part is infinite."""
    with torch.no_grad():
        parameter = local_part(trainer.parameters["high.audio.blocks.0.ffn.0.weight"])
        if torch.distributed.get_rank() == 1:
            parameter[0, 0] = float("inf")
    try:
        trainer.save()
    except CheckpointError as error:
        return str(error)
    return "saved"


def count_whole(model: Any) -> dict[str, int]:
    """Notes, whenever a layer computes, how many layers' weights are whole at that moment: the most so far, and of how many."""
    experts = [model.high, model.low]
    layers = list({m: None for e in experts for i in range(e.num_layers) for m in e.layer_modules(i)})
    found = {"most": 0, "all": len(layers)}

    def look(*_: Any) -> None:
        whole = sum(not any(map(is_sharded, layer.parameters())) for layer in layers)
        found["most"] = max(found["most"], whole)

    for layer in layers:
        layer.register_forward_hook(look)
    return found
