"""LoRA training with streamed base weights (mode low_resource) at the clip's size: three layers, then a whole micro-step."""

from __future__ import annotations

from contextlib import ExitStack
from copy import deepcopy
from typing import TYPE_CHECKING

import torch

from benchmarks.contestants import HOST, backend_of
from benchmarks.gpu.context import Context
from benchmarks.gpu.stages import Skipped
from benchmarks.timing import forget_peak, peak_bytes, timed
from benchmarks.workload import TEXT_TOKENS, Workload
from phonofilm.runtime.backward import TrainingStreamer

if TYPE_CHECKING:
    from phonofilm.training.task.joint_task import Batch, JointModel

LAYERS = 3
PROMPT_TOKENS = 100
RANK = 16


def micro_steps(context: Context) -> None:
    """Adapters of rank 16 in every attention of picture, sound and bridge, gradient checkpointing, one clip."""
    try:
        import peft  # noqa: F401 - the adapters' library
        import pydantic  # noqa: F401 - which reads training's settings
    except ImportError as error:
        raise Skipped(f"the package {error.name} is not installed") from error
    from phonofilm.training.dry_run.layer_depth import Depth, truncated

    work = context.workload(HOST)
    model, batch = _adapted_model(work), _one_clip(work)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    with ExitStack() as cleanup:
        seconds = timed(lambda: cleanup.callback(_streamer(model, context).close), context.device)
        context.row("ready", {"seconds": seconds, "trained_parameters": trained, "rank": RANK})
        with truncated(model, Depth(min(LAYERS, model.high.num_layers))):
            _micro_step(context, model, batch)  # warms up
            _measured(context, "three layers", model, batch)
        _measured(context, "whole micro-step", model, batch)
    context.drop()  # its weights lie in the slabs of the frozen ones


def _streamer(model: JointModel, context: Context) -> TrainingStreamer:
    return TrainingStreamer([model.high], backend_of(context.device), slots=2)


def _measured(context: Context, name: str, model: JointModel, batch: Batch) -> None:
    forget_peak(context.device)
    seconds = timed(lambda: _micro_step(context, model, batch), context.device)
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    finite = all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    model.zero_grad(set_to_none=True)
    figures = {"seconds": seconds, "finite": finite, "without_gradient": len(missing)}
    context.row(name, {**figures, **peak_bytes(context.device)})


def _micro_step(context: Context, model: JointModel, batch: Batch) -> None:
    """One forward and backward, as the loop of training makes it."""
    from phonofilm.training.config.training_config import ObjectiveConfig
    from phonofilm.training.task.interface import BatchIndex
    from phonofilm.training.task.joint_task import joint_loss

    turn = BatchIndex(step=0, micro=0, micro_steps=1, rank=0, processes=1, seed=0)
    with torch.enable_grad(), torch.autocast(context.device.type, torch.bfloat16, enabled=context.on_gpu):
        loss = joint_loss(model, ObjectiveConfig(), batch, "high", turn).total
    loss.backward()


def _adapted_model(work: Workload) -> JointModel:
    """Modules of its own around the workload's weights, with adapters whose second half is not zero, as after an update."""
    from phonofilm.training.config.finetune_config import AdapterConfig, LoraConfig
    from phonofilm.training.task.adapters import add_adapters
    from phonofilm.training.task.joint_task import JointModel

    denoiser = deepcopy(work.denoiser, {id(parameter): parameter for parameter in work.denoiser.parameters()})
    model = JointModel(denoiser, None, None)
    adapter = AdapterConfig(rank=RANK, alpha=RANK)
    add_adapters(model, LoraConfig(high=adapter, audio=adapter, bridge=adapter), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01, generator=generator)
    model.gradient_checkpointing = True
    return model


def _one_clip(work: Workload) -> Batch:
    """A clip's latents and prompt, random, on the device."""
    from phonofilm.training.task.joint_task import Batch
    from phonofilm.training.task.latent_dataset import EncodedPrompts
    from phonofilm.training.task.objective import Sample

    channels = work.denoiser.video.config["out_dim"]
    video, audio = work.inputs.video_latents[:, :channels], work.inputs.audio_latents
    sample = Sample(video, video.roll(1, 1), audio, torch.tensor([True]), video[0])
    text = work.conditionings[0].text.clone()
    length = min(PROMPT_TOKENS, TEXT_TOKENS)
    text[:, length:] = 0
    return Batch(sample, lambda keep: EncodedPrompts(text, torch.tensor([length])), work.inputs.frame_rate)
