"""Context parallel: several processes train on one clip, each with a run of the picture's tokens and all of the sound's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import distributed

from phonofilm.errors import InputError
from phonofilm.models.layout import CheckpointLayout
from phonofilm.parallel.degrees import choose_degrees
from phonofilm.parallel.mesh import make_mesh
from phonofilm.parallel.sequence_denoiser import shard_sequence
from phonofilm.parallel.sequence_shard import SequenceShard
from phonofilm.training.config.finetune_config import FinetuneConfig
from phonofilm.training.task.joint_task import JointModel


def check_sharing(config: FinetuneConfig, layout: CheckpointLayout, processes: int) -> None:
    """Raises InputError when so many processes, or the model's heads, cannot be dealt as the config says."""
    ranks = config.context_parallel
    if processes % ranks:
        raise InputError(
            f"context_parallel is {ranks} and {processes} {'process trains' if processes == 1 else 'processes train'}; "
            f"start a multiple of {ranks}, such as --gpus {ranks}, or set context_parallel=1"
        )
    choose_degrees(ranks, layout.components["video_dit"].config["num_heads"], ulysses=config.ulysses_degree)


def share_clips(model: JointModel, config: FinetuneConfig, device: torch.device) -> None:
    """Make the model's experts compute on this process's share of a clip's tokens. Every process calls it.

    Consecutive processes share a clip. Each then gets whole velocities and the whole loss, of which it differentiates its
    own copy: the mean of all processes' gradients is that of the loss, as it is of processes with clips of their own.
    """
    degrees = choose_degrees(
        config.context_parallel, model.high.video.config["num_heads"], ulysses=config.ulysses_degree
    )
    mesh = make_mesh(replace(degrees, cfg=distributed.get_world_size() // degrees.world), device)
    experts = [model.high] if model.low is None else [model.high, model.low]
    model.high, *others = shard_sequence(experts, SequenceShard(mesh))
    if others:
        (model.low,) = others
