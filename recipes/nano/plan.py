"""What a run of an edition will take, counted from shapes before it starts: FLOPs, memory, updates. Nothing is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from phonofilm.models.joint import JointDenoiser
from phonofilm.models.one_pass import OnePass
from phonofilm.runtime.flops import forward_flops
from phonofilm.training.config.training_config import JointConfig
from phonofilm.units import format_size
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig, build_audio_vae
from recipes.nano.recipe import Recipe
from recipes.nano.text_encoder import build_text_encoder
from recipes.nano.towers.train_towers import build_denoiser
from recipes.nano.video_vae.config import VideoVaeConfig, build_video_vae

FORWARDS_OF_AN_UPDATE = 3  # its own, and backwards twice that
STUDENT_FORWARDS = (
    1 + 2 * 3 + FORWARDS_OF_AN_UPDATE
)  # on its way, three guided steps of the teacher, and what it learns from
STUDENT_BATCH = 16
PROMPT_TOKENS, VOCABULARY = 32, 170
WEIGHT_BYTES = 2  # bfloat16


@dataclass(frozen=True)
class Machine:
    """FLOP/s, and the least seconds that an update takes however small it is: its kernels must be launched."""

    name: str
    rate: float
    launches: float


GPU = Machine("an H100 at 40 TFLOP/s, 4 % of its bfloat16 peak, and 30 ms for the smallest update", 40e12, 0.03)
CPU = Machine("two cores at 40 GFLOP/s together", 40e9, 0.0)


@dataclass(frozen=True)
class StageCost:
    """A stage's time, and of an update on the average: FLOPs, and bytes that are kept for its backward pass (at most)."""

    name: str
    seconds: float | None
    flops: float
    nbytes: int = 0

    def line(self, machine: Machine) -> str:
        """ "video-vae 168 s: 2.26 TFLOP an update, about 2970 updates, 19.3 GB for the backward pass"."""
        time = "" if self.seconds is None else f" {self.seconds:.0f} s"
        parts = [f"{self.flops / 1e12:.3g} TFLOP an update"]
        if self.seconds is not None:
            parts.append(f"about {self.seconds / max(self.flops / machine.rate, machine.launches):.0f} updates")
        if self.nbytes:
            parts.append(f"{format_size(self.nbytes)} for the backward pass")
        return f"{self.name}{time}: {', '.join(parts)}"


def plan_lines(recipe: Recipe, device: str) -> list[str]:
    """What is said before the run starts."""
    machine = CPU if device == "cpu" else GPU
    lines = [cost.line(machine) for cost in stage_costs(recipe)]
    if (world := recipe.world) is not None:
        lines.insert(
            0,
            f"world: {world.clips} clips of {world.num_frames} frames at {world.size}x{world.size} by "
            f"{world.processes} processes, {format_size(world.nbytes)} on the disk",
        )
    return [*lines, f"weights: {format_size(weight_bytes(recipe))}", f"computed for {machine.name}, not measured"]


def weight_bytes(recipe: Recipe) -> int:
    """Of the checkpoint without a student, in bfloat16."""
    denoiser = _denoiser(recipe)
    text = build_text_encoder(VOCABULARY, width=recipe.text.width, layers=recipe.text.layers, heads=recipe.text.heads)
    parts = (build_video_vae(recipe.video_vae), build_audio_vae(recipe.audio_vae), text, denoiser, denoiser.video)
    return WEIGHT_BYTES * sum(parameter.numel() for part in parts for parameter in part.parameters())


def stage_costs(recipe: Recipe) -> tuple[StageCost, ...]:
    """Of every stage that trains."""
    forward = _tower_flops(recipe)
    costs = [
        _video_cost(recipe.video_vae),
        _audio_cost("audio-vae", recipe.audio_vae, recipe.audio_vae),
        _audio_cost("audio-decoder", recipe.audio_vae, recipe.audio_decoder),
        _towers_cost("joint", recipe.joint, forward),
        _towers_cost("experts", recipe.experts, forward),
    ]
    if recipe.student is not None:
        costs.append(StageCost("student", recipe.student.budget_seconds, STUDENT_FORWARDS * STUDENT_BATCH * forward))
    return tuple(costs)


def _video_cost(config: VideoVaeConfig) -> StageCost:
    """The mean over the phases' updates, when each takes as long as its FLOPs say; the largest phase's memory."""
    net = OnePass(build_video_vae(config).to("meta"))
    counted = []
    for phase in config.phases:
        pixels = torch.empty(phase.batch, 3, phase.frames, config.size, config.size, device="meta")
        counted.append(_counted(partial(_through, net, pixels)))
    updates = sum(phase.share / flops for phase, (flops, _) in zip(config.phases, counted, strict=True))
    seconds = None if config.max_steps is not None else config.budget_seconds
    return StageCost("video-vae", seconds, 1 / updates, max(nbytes for _, nbytes in counted))


def _through(net: OnePass, pixels: Tensor) -> Tensor:
    return net.decode(net.encode(pixels)[0])


def _audio_cost(name: str, sizes: AudioVaeConfig, config: AudioVaeConfig) -> StageCost:
    vae = build_audio_vae(sizes).to("meta")
    wave = torch.empty(config.batch_size, 1, config.crop_hops * config.hop, device="meta")
    flops, nbytes = _counted(lambda: vae.decode(vae.encode(wave).mean))
    return StageCost(name, config.budget_seconds, flops, nbytes)


def _towers_cost(name: str, config: JointConfig, forward: float) -> StageCost:
    return StageCost(name, config.budget_seconds, FORWARDS_OF_AN_UPDATE * config.batch_size * forward)


def _counted(forward: Callable[[], Tensor]) -> tuple[float, int]:
    """(FLOPs of an update, bytes it keeps for its backward pass: an upper bound, in float32, tensors kept twice count twice)."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, nn.Parameter) else tensor.nbytes
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return FORWARDS_OF_AN_UPDATE * counter.get_total_flops(), kept


def _denoiser(recipe: Recipe) -> JointDenoiser:
    return build_denoiser(
        recipe.towers, recipe.video_vae.latent_channels, recipe.audio_vae.latent_dim, recipe.text.width
    )


def _tower_flops(recipe: Recipe) -> float:
    """Of one clip's forward."""
    sizes, audio = recipe.latents, recipe.audio_vae
    frames = 1 + (sizes.num_frames - 1) // 4
    sounds = -(-int(audio.sampling_rate * sizes.num_frames / sizes.frame_rate) // audio.hop)
    return forward_flops(_denoiser(recipe), frames * (sizes.size // 16) ** 2, sounds, PROMPT_TOKENS).total
