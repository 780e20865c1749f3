"""Whether a model fits a machine, how fast it can be there, and which card would do. From sizes alone: no weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import psutil
import torch

from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.expected_time import clip_seconds, measure_rates
from phonofilm.generation.films.parts import PartSizes, divide, fits_one_part
from phonofilm.generation.films.timed_prompts import TimedPrompt
from phonofilm.generation.known_prompts import is_embedded
from phonofilm.generation.placement.cards import SIZES, card_like, known_peak
from phonofilm.generation.placement.offload import decoding_memory, empty_denoiser, text_blocks
from phonofilm.geometry import ClipGeometry, frames_for_seconds
from phonofilm.models.hub import local_checkpoint
from phonofilm.models.joint import TEXT_LENGTH, JointDenoiser
from phonofilm.models.known import NAMED_SIZES
from phonofilm.models.layout import read_layout
from phonofilm.pipeline.edit_tasks import OVERLAP_FRAMES
from phonofilm.runtime import released
from phonofilm.runtime.flops import forward_flops
from phonofilm.runtime.footprint import Footprint, TextBlocks, decoding_bytes, reserved_for
from phonofilm.runtime.memory_plan import Budget, ClipCost, MemoryPlan, Offload, choose_offload
from phonofilm.runtime.parallel_footprint import PerDevice, per_device
from phonofilm.units import format_duration, format_gigabytes

WEIGHT_BYTES = 2  # bfloat16
FRAME_RATE = Fraction(24)
RELEASED_SECONDS, RELEASED_STEPS = 8.0, 50
FORWARDS_A_STEP = 2


@dataclass(frozen=True)
class Needs:
    """A model and a clip of it: bytes, and the work. `denoiser` is on the meta device; `embedded`: it is the packaged one.

    `clip` is the largest of the `parts` in which a long film is made.
    """

    name: str
    clip: ClipGeometry
    footprint: Footprint
    cost: ClipCost
    denoiser: JointDenoiser
    embedded: bool = False
    parts: int = 1

    @property
    def title(self) -> str:
        clip, seconds = self.clip, float(self.clip.num_frames / self.clip.frame_rate)
        size = (
            f"{clip.width}x{clip.height}, {clip.num_frames} frames ({seconds:.3g} s at {float(clip.frame_rate):g} fps)"
        )
        size += f", one of {self.parts} parts" if self.parts > 1 else ""
        return f"{self.name}: {size}, {clip.video_tokens} video tokens, {self.cost.steps} steps"


@dataclass(frozen=True)
class Machine:
    """What is here, in words, and as a budget; None without a GPU, real or assumed."""

    description: str
    budget: Budget | None
    host: int


def this_machine(vram: int | None, ram: int | None, flops: float | None, link: float) -> Machine:
    """The machine at hand; what is given takes the place of what is found. A card that is not known is taken for a like one."""
    host = psutil.virtual_memory().available if ram is None else ram
    memory = f"{host / 1e9:.3g} GB of host memory to use"
    if torch.cuda.is_available():
        name, free = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0] if vram is None else vram
        found = f"{name}, {format_gigabytes(free)} free; {memory}"
    elif vram is not None:
        name, free, found = "", vram, f"as if a card had {format_gigabytes(vram)} free; {memory}"
    else:
        return Machine(f"no CUDA device; {memory}", None, host)
    peak = known_peak(name) if flops is None else flops
    if peak is None:
        like = card_like(free)
        peak, found = (
            like.tflops * 1e12,
            f"{found}; its speed is not known, taken for an {like.name}'s, {like.tflops:g} TFLOP/s",
        )
    return Machine(found, Budget(free, host, peak, link), host)


def named_card(gigabytes: int, host: int | None, flops: float | None, link: float) -> tuple[str, Budget]:
    """A card of that size: its name in a table, and its budget."""
    nbytes = gigabytes * 2**30
    like = card_like(nbytes)
    speed = like.tflops * 1e12 if flops is None else flops
    return f"{gigabytes} GB card" + ("" if flops else f" (as {like.name})"), Budget(nbytes, host, speed, link)


def needs_of(
    model: str, size: tuple[int, int] | None = None, seconds: float | None = None, steps: int | None = None
) -> Needs:
    """What a clip of a model needs; size, length and steps that are not given are the model's own.

    The two releases need not be here. Raises InputError or CheckpointError for any other model that is not.
    """
    if model in NAMED_SIZES:
        height, width = size or NAMED_SIZES[model]
        frames = frames_for_seconds(RELEASED_SECONDS if seconds is None else seconds, FRAME_RATE)
        own = frames_for_seconds(RELEASED_SECONDS, FRAME_RATE)
        clip, parts = _in_parts(ClipGeometry(height, width, frames, FRAME_RATE), own)
        return replace(_released(model, clip, steps or RELEASED_STEPS), parts=parts)
    checkpoint = Checkpoint(model, read_layout(local_checkpoint(model)))
    clip = checkpoint.geometry
    if size is not None:
        clip = replace(clip, height=size[0], width=size[1])
    if seconds is not None:
        clip = replace(clip, num_frames=frames_for_seconds(seconds, clip.frame_rate, clip.temporal_factor))
    clip, parts = _in_parts(clip, checkpoint.geometry.num_frames)
    return replace(_of_checkpoint(checkpoint, clip, steps or checkpoint.defaults.num_inference_steps), parts=parts)


def _in_parts(clip: ClipGeometry, own_frames: int) -> tuple[ClipGeometry, int]:
    """The largest part in which a clip is made, and how many there are."""
    sizes = PartSizes(own_frames, OVERLAP_FRAMES, clip.temporal_factor)
    if fits_one_part(clip.num_frames, sizes):
        return clip, 1
    parts = divide((TimedPrompt(0.0, float(clip.seconds), "any"),), clip.num_frames, clip.frame_rate, sizes)
    return replace(clip, num_frames=parts[0].num_frames), len(parts)


def _released(name: str, clip: ClipGeometry, steps: int) -> Needs:
    denoiser = released.released_denoiser()
    vae = released.VIDEO_VAE_PARAMETERS * WEIGHT_BYTES
    text = (released.TEXT_BLOCK_PARAMETERS, released.TEXT_TENSOR_PARAMETERS, released.TEXT_WIDTH)
    footprint = Footprint.of(
        denoiser,
        released.EXPERT_COUNT,
        released.TEXT_ENCODER_PARAMETERS * WEIGHT_BYTES,
        vae + released.AUDIO_VAE_PARAMETERS * 4,  # always float32
        WEIGHT_BYTES,
        TextBlocks(*(count * WEIGHT_BYTES for count in text)),
    )
    whole, tiled = (
        vae + decoding_bytes(clip.height * clip.width, clip.num_frames, WEIGHT_BYTES, tiled=tiles)
        for tiles in (False, True)
    )
    return Needs(name, clip, footprint, _cost(denoiser, clip, steps, whole, tiled), denoiser)


def _of_checkpoint(checkpoint: Checkpoint, clip: ClipGeometry, steps: int) -> Needs:
    denoiser = empty_denoiser(checkpoint, None)
    vae = checkpoint.component_bytes("video_vae", WEIGHT_BYTES)
    whole, tiled = (vae + _decoding(checkpoint, clip, tiles) for tiles in (False, True))
    footprint, cost = _footprint(checkpoint, denoiser, WEIGHT_BYTES), _cost(denoiser, clip, steps, whole, tiled)
    return Needs(checkpoint.name, clip, footprint, cost, denoiser, is_embedded(checkpoint.layout.folder))


def _footprint(checkpoint: Checkpoint, denoiser: JointDenoiser, itemsize: int) -> Footprint:
    sizes = {name: checkpoint.component_bytes(name, itemsize) for name in checkpoint.layout.components}
    decoders = sizes["video_vae"] + sizes["audio_vae"]
    blocks = text_blocks(checkpoint, itemsize)
    return Footprint.of(denoiser, checkpoint.experts, sizes["text_encoder"], decoders, itemsize, blocks)


def _decoding(checkpoint: Checkpoint, clip: ClipGeometry, tiled: bool) -> int:
    return decoding_memory(checkpoint, clip.height * clip.width, clip.num_frames, WEIGHT_BYTES, tiled)


def peak_on_cpu(checkpoint: Checkpoint, denoiser: JointDenoiser, clip: ClipGeometry, itemsize: int) -> int:
    """Bytes where everything is in host memory: all weights, and what a forward or decoding takes, whichever is more.

    In float32 all that decoding holds is twice as large as in bfloat16, for which it was counted.
    """
    footprint = _footprint(checkpoint, denoiser, itemsize)
    decoding = _decoding(checkpoint, clip, tiled=False) * itemsize // WEIGHT_BYTES
    return footprint.total + reserved_for(max(footprint.working(clip.video_tokens, 1), decoding))


def _cost(denoiser: JointDenoiser, clip: ClipGeometry, steps: int, whole: int, tiled: int) -> ClipCost:
    flops = forward_flops(denoiser, clip.video_tokens, clip.audio_latents, TEXT_LENGTH).total
    return ClipCost(clip.video_tokens, flops, FORWARDS_A_STEP, steps, decoding=whole, decoding_tiled=tiled)


def plan_or_none(needs: Needs, budget: Budget, offload: Offload | None = None) -> MemoryPlan | None:
    try:
        return choose_offload(budget, needs.footprint, needs.cost, offload)
    except InputError:
        return None


def plan_text(needs: Needs, budget: Budget, offload: Offload | None = None) -> str:
    """The plan in one line, or why there is none and what would fit."""
    try:
        return choose_offload(budget, needs.footprint, needs.cost, offload).line(budget)
    except InputError as error:
        return f"does not fit: {error}"


def shared(needs: Needs, devices: int) -> PerDevice:
    """Bytes on each of several GPUs that share the clip."""
    return per_device(needs.footprint, needs.cost, devices)


def verdict(needs: Needs, machine: Machine) -> str:
    """ "nano: yes, about 3 s a clip" or "360p: no, 6 GB short; a 12 GB card would do"."""
    if needs.embedded:
        return f"{needs.name}: yes, {_embedded_time(needs, machine)}"
    if machine.budget is None:
        return f"{needs.name}: no, there is no GPU; {_card_that_does(needs, machine.host)}"
    plan = plan_or_none(needs, machine.budget)
    if plan is not None:
        assert plan.seconds_per_step is not None
        clip = format_duration(plan.seconds_per_step * plan.steps)
        how = {"none": "all of it on the card", "model": "by component", "layer": "layer by layer"}[plan.offload]
        return f"{needs.name}: yes, {how}, at least {clip} a {'clip' if needs.parts == 1 else 'part'}"
    streamed = plan_or_none(needs, replace(machine.budget, host=None), "layer")
    if streamed is not None:
        return f"{needs.name}: no, {format_gigabytes(streamed.host_bytes - machine.host)} of host memory short"
    short = _least_device_bytes(needs, machine.budget) - machine.budget.device
    return f"{needs.name}: no, {format_gigabytes(short)} short; {_card_that_does(needs, machine.host)}"


def verdicts(models: Sequence[Needs], machine: Machine) -> str:
    """The verdict line over several models."""
    return ". ".join(verdict(needs, machine) for needs in models) + "."


def verdicts_here(models: Sequence[str], link: float) -> str:
    """The same for the machine at hand, from the models' names."""
    return verdicts([needs_of(name) for name in models], this_machine(None, None, None, link))


def _embedded_time(needs: Needs, machine: Machine) -> str:
    if machine.budget is not None:
        return "in seconds a clip"
    seconds = clip_seconds(
        needs.denoiser, needs.clip, needs.cost.steps * FORWARDS_A_STEP, measure_rates(needs.denoiser)
    )
    return f"about {format_duration(max(1, seconds))} a clip on this CPU"


def _least_device_bytes(needs: Needs, budget: Budget) -> int:
    """The least device memory with which streaming by layer fits, to 10 MB."""
    low, high = 0, 10**12
    while high - low > 10**7:
        middle = (low + high) // 2
        fits = plan_or_none(needs, replace(budget, device=middle, host=None), "layer") is not None
        low, high = (low, middle) if fits else (middle, high)
    return high


def _card_that_does(needs: Needs, host: int) -> str:
    """The smallest card beside the host memory there is, and a smaller one that would do beside more of it."""
    enough = []
    for limit in (None, host):
        for gigabytes in SIZES:
            plan = plan_or_none(needs, Budget(gigabytes * 2**30, limit))
            if plan is not None:
                memory = f" with {format_gigabytes(plan.host_bytes)} of host memory" if plan.host_bytes > host else ""
                enough.append(f"{'an' if gigabytes in (8, 80) else 'a'} {gigabytes} GB card{memory}")
                break
    if not enough:
        return "no single card would do; several GPUs share a clip with --gpus"
    return f"{' or '.join(dict.fromkeys(enough))} would do"
