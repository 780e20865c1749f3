"""Decides where weights wait: from what was requested and the memory there is, to a placement with no choice left open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import psutil
import torch
from transformers import UMT5EncoderModel

from phonofilm.errors import InputError
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.placement.cards import known_peak
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.report import Message, OnProgress, emit
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.building import empty_module
from phonofilm.models.joint import TEXT_LENGTH, JointDenoiser
from phonofilm.models.quantized import empty_quantized
from phonofilm.models.video import WanModel
from phonofilm.runtime.footprint import DECODER_WIDTH, Footprint, TextBlocks, decoding_bytes
from phonofilm.runtime.layer_streaming import spread
from phonofilm.runtime.memory_plan import Budget, ClipCost, MemoryPlan, Offload, StreamingOptions, choose_offload
from phonofilm.units import GIGA, parse_size

if TYPE_CHECKING:
    from phonofilm.generation.checkpoint import Checkpoint


@dataclass(frozen=True)
class MemoryLimits:
    """The memory to plan with; None means: decide. Bytes; layers.

    `vae_tiling`: decode in tiles or whole; None leaves it to the plan.
    """

    vram: int | None = None
    ram: int | None = None
    slots: int | None = None
    resident: int | None = None
    vae_tiling: bool | None = None

    @classmethod
    def of(cls, hardware: HardwareOptions) -> MemoryLimits:
        """The options' text as limits. Raises InputError for one that is no amount of memory."""
        vram, ram = hardware.vram_limit, hardware.ram_limit
        return cls(
            None if vram is None else parse_size(vram, "vram_limit", bare=GIGA),
            None if ram is None else parse_size(ram, "ram_limit", bare=GIGA),
            hardware.slots,
            hardware.resident_layers,
            hardware.vae_tiling,
        )


def resolve_placement(
    placement: DevicePlacement,
    limits: MemoryLimits,
    checkpoint: Checkpoint,
    clips: Sequence[ClipPlan],
    on_progress: OnProgress,
) -> DevicePlacement:
    """The placement with its offloading decided for these clips; reports the plan in one line.

    A limit on layers (slots, resident ones, a folder for them) makes "auto" layer.
    On a CPU the weights are where they compute: there, auto is none, and layer streams from host memory to host memory,
    unless `vram_limit` asks to plan as for a device of that size. Raises InputError when nothing fits, saying what would.
    """
    about_layers = (placement.disk, limits.slots, limits.resident)
    if placement.offload == "auto" and any(limit is not None for limit in about_layers):
        placement = replace(placement, offload="layer")
    refuse_what_changes_nothing(placement, limits)
    if limits.resident:
        spread(limits.resident, checkpoint.layout.components["video_dit"].config["num_layers"])  # refuses too many
    limited = limits.vram is not None or limits.ram is not None
    has_card = placement.device.type == "cuda" or limits.vram is not None
    if clips and has_card and (placement.offload in ("auto", "layer") or limited):
        plan, budget = _choose(placement, limits, checkpoint, clips)
        emit(on_progress, Message(plan.line(budget)))
        return replace(
            placement,
            offload=placement.offload if placement.offload != "auto" else plan.offload,
            slots=plan.slots if plan.offload == "layer" else placement.slots,
            resident=plan.resident if plan.offload == "layer" else 0,
            keeps_text=plan.keeps_text if plan.offload == "layer" else placement.keeps_text,
            vae_tiling=plan.tiled if limits.vae_tiling is None else limits.vae_tiling,
        )
    return replace(
        placement,
        offload="none" if placement.offload == "auto" else placement.offload,
        slots=placement.slots if limits.slots is None else limits.slots,
        resident=limits.resident or 0,
        vae_tiling=bool(limits.vae_tiling),
    )


def refuse_what_changes_nothing(placement: DevicePlacement, limits: MemoryLimits) -> None:
    """Raises InputError for a limit that plays no part with the placement's way of offloading."""
    streaming = {"slots": limits.slots, "resident_layers": limits.resident}
    memory = {"vram_limit": limits.vram, "ram_limit": limits.ram}
    useless = {} if placement.offload == "layer" else streaming
    if placement.offload == "group":
        useless = streaming | memory
    if unused := [name for name, value in useless.items() if value is not None]:
        raise InputError(
            f"{'= and '.join(unused)}= would change nothing with offload={placement.offload}; use offload=auto or layer"
        )
    if limits.ram is not None and limits.vram is None and placement.device.type != "cuda":
        raise InputError(f"ram_limit needs a device to plan for, and this is {placement.device}; give vram_limit too")


def _choose(
    placement: DevicePlacement, limits: MemoryLimits, checkpoint: Checkpoint, clips: Sequence[ClipPlan]
) -> tuple[MemoryPlan, Budget]:
    from phonofilm.runtime.flops import forward_flops

    denoiser, itemsize = empty_denoiser(checkpoint, placement.computing.quantize), placement.dtype.itemsize
    sizes = {name: checkpoint.component_bytes(name, itemsize) for name in checkpoint.layout.components}
    decoders = sizes["video_vae"] + sizes["audio_vae"]
    blocks = text_blocks(checkpoint, itemsize)
    model = Footprint.of(denoiser, checkpoint.experts, sizes["text_encoder"], decoders, itemsize, blocks)
    geometry = max((clip.sampling.task.geometry for clip in clips), key=lambda one: one.video_tokens)
    flops = forward_flops(denoiser, geometry.video_tokens, geometry.audio_latents, TEXT_LENGTH).total
    whole, tiled = (
        sizes["video_vae"]
        + decoding_memory(checkpoint, geometry.height * geometry.width, geometry.num_frames, itemsize, tiles)
        for tiles in (False, True)
    )
    work = ClipCost(
        geometry.video_tokens,
        flops,
        evaluations=max(len(scales.evaluations) for clip in clips for scales in clip.sampling.guidance),
        steps=max(len(clip.sampling.steps) for clip in clips),
        decoding=tiled if limits.vae_tiling else whole,
        decoding_tiled=0 if limits.vae_tiling is False else tiled,
    )
    stored = {entry.dtype for entry in checkpoint.layout.components["text_encoder"].entries.values()}
    streaming = StreamingOptions(
        slots=placement.slots if limits.slots is None else limits.slots,
        resident=limits.resident,
        on_disk=placement.disk is not None,
        text_encoder_mapped=stored == {placement.dtype},
    )
    budget = _budget(placement, limits)
    kind = {"cpu": "model", "auto": None}.get(placement.offload, placement.offload)
    return choose_offload(budget, model, work, cast("Offload | None", kind), streaming), budget


def _budget(placement: DevicePlacement, limits: MemoryLimits) -> Budget:
    host = psutil.virtual_memory().available if limits.ram is None else limits.ram
    if placement.device.type != "cuda":
        assert limits.vram is not None
        return Budget(limits.vram, host)
    free, _ = torch.cuda.mem_get_info(placement.device)
    name = torch.cuda.get_device_name(placement.device)
    return Budget(free if limits.vram is None else limits.vram, host, known_peak(name))


def empty_denoiser(checkpoint: Checkpoint, quantize: str | None) -> JointDenoiser:
    """One expert with what it shares, without weights."""
    parts = [checkpoint.layout.components[name] for name in ("video_dit", "audio_dit", "dual_tower_bridge")]
    expert, audio, bridge = (part.skeleton for part in parts)
    if quantize is not None:
        expert, audio, bridge = (
            empty_module(part.class_name, part.config, str(part.folder / "config.json")) for part in parts
        )
        for network in (expert, audio, bridge):
            empty_quantized(network, quantize)
    assert isinstance(expert, WanModel)
    assert isinstance(audio, WanAudioModel)
    assert isinstance(bridge, DualTowerConditionalBridge)
    return JointDenoiser(expert, audio, bridge)


def text_blocks(checkpoint: Checkpoint, itemsize: int) -> TextBlocks:
    """What streaming the text encoder takes."""
    module = checkpoint.layout.components["text_encoder"].skeleton
    assert isinstance(module, UMT5EncoderModel)
    blocks = [[weight.numel() * itemsize for weight in block.parameters()] for block in module.encoder.block]
    return TextBlocks(max(map(sum, blocks)), max(map(max, blocks)), module.config.d_model * itemsize)


def decoding_memory(checkpoint: Checkpoint, pixels: int, frames: int, itemsize: int, tiled: bool) -> int:
    """Bytes of decoding a clip beside the decoder's weights."""
    width = checkpoint.layout.components["video_vae"].config.get("base_dim", DECODER_WIDTH)
    return decoding_bytes(pixels, frames, itemsize, width, tiled=tiled)
