"""`phonofilm plan`: where a model's weights would wait, on this machine and on cards of common sizes. Loads no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.geometry import ClipGeometry
    from phonofilm.models.joint import JointDenoiser
    from phonofilm.runtime.footprint import Footprint
    from phonofilm.runtime.memory_plan import Budget, ClipCost, Offload

SIZES = {"360p": (352, 640), "720p": (720, 1280)}
LENGTHS = (2.0, 8.0)
CARDS = (8, 12, 16, 24, 48, 80)
SHARED_BY = (2, 4, 8)
WEIGHT_BYTES = 2
TEXT_TOKENS = 512
FRAME_RATE = Fraction(24)


def plan(
    size: Annotated[str | None, typer.Option(metavar="360p|720p|WxH", help="One size, instead of both.")] = None,
    seconds: Annotated[float | None, typer.Option(help="One length, instead of 2 and 8 seconds.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 50,
    offload: Annotated[str, typer.Option(help="auto, none, model or layer.")] = "auto",
    vram_limit: Annotated[float | None, typer.Option(metavar="GB", help="Device memory to plan with.")] = None,
    ram_limit: Annotated[float | None, typer.Option(metavar="GB", help="Host memory to plan with.")] = None,
    tflops: Annotated[float | None, typer.Option(help="The device's peak in bfloat16, for estimates of time.")] = None,
    link: Annotated[float, typer.Option(metavar="GB/s", help="From host to device.")] = 25.0,
) -> None:
    """Say what MOVA would need, and where its weights would wait, without loading them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from phonofilm.evaluation.flops import forward_flops
    from phonofilm.runtime.memory_plan import ClipCost
    from phonofilm.runtime.released import released_denoiser

    for name, value in (
        ("--vram-limit", vram_limit),
        ("--ram-limit", ram_limit),
        ("--tflops", tflops),
        ("--link", link),
    ):
        if value is not None and value <= 0:
            raise InputError(f"{name} is {value:g}; expected a number above 0")
    kind = _offload(offload)
    clips = _clips(size, seconds)
    host = None if ram_limit is None else round(ram_limit * 1e9)
    given = None if tflops is None else tflops * 1e12
    denoiser = released_denoiser()
    model = _footprint(denoiser)
    console = Console()
    machine = _this_machine(vram_limit, host, given, link * 1e9)
    console.print(machine.told, highlight=False, soft_wrap=True)
    if machine.budget is not None and machine.budget.flops is None:
        console.print("The speed of this device is not known: give --tflops for times.", highlight=False)
    rows = [] if machine.budget is None else [("this machine", machine.budget)]
    if vram_limit is None:
        rows += [(f"{card} GB card", replace(_card(card), host=host, flops=given, link=link * 1e9)) for card in CARDS]
    for told, clip in clips:
        flops = forward_flops(denoiser, clip.video_tokens, clip.audio_latents, TEXT_TOKENS).total
        whole, tiled = (_decoding(clip, tiles) for tiles in (False, True))
        work = ClipCost(clip.video_tokens, flops, steps=steps, decoding=whole, decoding_tiled=tiled)
        table = Table("", "plan", title=f"{told}, {clip.num_frames} frames at 24 fps, {clip.video_tokens} video tokens")
        for name, budget in rows:
            table.add_row(name, Text(_told(budget, model, work, kind)))
        for devices in SHARED_BY if vram_limit is None else ():
            table.add_row(f"{devices} GPUs", Text(_shared(model, work, devices)))
        console.print(table)
    console.print(
        "Memory is exact for weights (bfloat16) and counted for the forward and for decoding. Times are estimates: all FLOPs "
        "at the device's peak, which nothing reaches. generate --offload auto plans the same way for its clip "
        "(docs/memory.md).",
        highlight=False,
        soft_wrap=True,
    )


@dataclass(frozen=True)
class ThisMachine:
    """What is here, in words, and as a budget; None without a GPU."""

    told: str
    budget: Budget | None


def _this_machine(vram_limit: float | None, host: int | None, flops: float | None, link: float) -> ThisMachine:
    import psutil
    import torch

    from phonofilm.generation.placement.cards import known_peak
    from phonofilm.runtime.memory_plan import Budget

    memory = psutil.virtual_memory().available if host is None else host
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        device = free if vram_limit is None else round(vram_limit * 1e9)
        told = f"This machine: {name}, {free / 1e9:.3g} GB free; {memory / 1e9:.3g} GB of host memory to use"
        return ThisMachine(told, Budget(device, memory, known_peak(name) if flops is None else flops, link))
    told = f"This machine: no CUDA device; {memory / 1e9:.3g} GB of host memory to use"
    if vram_limit is None:
        return ThisMachine(told, None)
    return ThisMachine(told, Budget(round(vram_limit * 1e9), memory, flops, link))


def _card(gigabytes: int) -> Budget:
    """A card as it is sold: powers of two."""
    from phonofilm.runtime.memory_plan import Budget

    return Budget(gigabytes * 2**30)


def _footprint(denoiser: JointDenoiser) -> Footprint:
    from phonofilm.runtime import released
    from phonofilm.runtime.footprint import Footprint, TextBlocks

    decoders = released.VIDEO_VAE_PARAMETERS * WEIGHT_BYTES + released.AUDIO_VAE_PARAMETERS * 4  # always float32
    text_encoder = released.TEXT_ENCODER_PARAMETERS * WEIGHT_BYTES
    text = (released.TEXT_BLOCK_PARAMETERS, released.TEXT_TENSOR_PARAMETERS, released.TEXT_WIDTH)
    blocks = TextBlocks(*(count * WEIGHT_BYTES for count in text))
    return Footprint.of(denoiser, released.EXPERT_COUNT, text_encoder, decoders, WEIGHT_BYTES, blocks)


def _decoding(clip: ClipGeometry, tiled: bool) -> int:
    from phonofilm.runtime import released
    from phonofilm.runtime.footprint import decoding_bytes

    weights = released.VIDEO_VAE_PARAMETERS * WEIGHT_BYTES
    return weights + decoding_bytes(clip.height * clip.width, clip.num_frames, WEIGHT_BYTES, tiled=tiled)


def _shared(model: Footprint, work: ClipCost, devices: int) -> str:
    from phonofilm.runtime.parallel_footprint import per_device

    each = per_device(model, work, devices)
    return (
        f"sharing each clip (--gpus {devices}): at most {each.whole / 1e9:.3g} GB on each, or {each.in_parts / 1e9:.3g} GB "
        "with --shard-weights"
    )


def _told(budget: Budget, model: Footprint, work: ClipCost, offload: Offload | None) -> str:
    from phonofilm.runtime.memory_plan import choose_offload

    try:
        return choose_offload(budget, model, work, offload).line(budget)
    except InputError as error:
        return f"does not fit: {error}"


def _offload(word: str) -> Offload | None:
    from phonofilm.runtime.memory_plan import PLANNED_OFFLOADS

    for kind in PLANNED_OFFLOADS:
        if word == kind:
            return kind
    if word != "auto":
        raise InputError(f"offload {word!r} is unknown; use auto, {', '.join(PLANNED_OFFLOADS)}")
    return None


def _clips(size: str | None, seconds: float | None) -> list[tuple[str, ClipGeometry]]:
    from phonofilm.geometry import ClipGeometry, frames_for_seconds, parse_frame_size

    if seconds is not None and seconds <= 0:
        raise InputError(f"--seconds is {seconds:g}; expected a length above 0")
    sizes = SIZES if size is None else {size: SIZES[size] if size in SIZES else parse_frame_size(size, SIZES)}
    lengths = LENGTHS if seconds is None else (seconds,)
    return [
        (name, ClipGeometry(height, width, frames_for_seconds(length, FRAME_RATE), FRAME_RATE))
        for name, (height, width) in sizes.items()
        for length in lengths
    ]
