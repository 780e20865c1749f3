"""Where weights wait, decided: the user's words and the memory there is in, a machine with every choice made out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import psutil
import torch
from transformers import UMT5EncoderModel

from phonofilm.cli.devices import Machine
from phonofilm.cli.memory import known_peak
from phonofilm.cli.plan import ClipPlan
from phonofilm.cli.progress import Report
from phonofilm.errors import InputError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.building import empty_module
from phonofilm.models.joint import TEXT_LENGTH, JointDenoiser
from phonofilm.models.quantized import empty_quantized
from phonofilm.models.video import WanModel
from phonofilm.runtime.footprint import DECODER_WIDTH, Footprint, TextBlocks, decoding_bytes
from phonofilm.runtime.memory_plan import Budget, ClipCost, MemoryPlan, Offload, StreamingOptions, choose_offload
from phonofilm.runtime.streaming import spread

if TYPE_CHECKING:
    from phonofilm.cli.checkpoint import Checkpoint

UNITS = {"": 1e9, "gb": 1e9, "gib": 2**30, "mb": 1e6, "mib": 2**20}


@dataclass(frozen=True)
class Limits:
    """What the user says about memory; None where nothing was said. Bytes; layers.

    `vae_tiling`: decode in tiles or whole; None leaves it to the plan.
    """

    vram: int | None = None
    ram: int | None = None
    slots: int | None = None
    resident: int | None = None
    vae_tiling: bool | None = None


def limits(
    vram: str | None = None,
    ram: str | None = None,
    slots: int | None = None,
    resident: int | None = None,
    vae_tiling: bool | None = None,
) -> Limits:
    """The options' words as limits. Raises InputError for one that is no amount of memory."""
    return Limits(
        None if vram is None else _bytes("--vram-limit", vram),
        None if ram is None else _bytes("--ram-limit", ram),
        slots,
        resident,
        vae_tiling,
    )


def _bytes(option: str, text: str) -> int:
    """ "12GB", "11.5 GiB", "800MB"; a number alone is GB."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in UNITS or float(found[1]) <= 0:
        raise InputError(f"{option} {text!r} is no amount of memory; use for example 12GB or 800MB")
    return round(float(found[1]) * UNITS[found[2]])


def settle(
    machine: Machine, told: Limits, checkpoint: Checkpoint, clips: Sequence[ClipPlan], report: Report
) -> Machine:
    """The machine with its offloading decided for these clips; says the plan in one line.

    What is said about layers (slots, resident ones, a folder for them) asks for layers, so auto is layer then.
    On a CPU the weights are where they compute: there, auto is none, and layer streams from host memory to host memory,
    unless --vram-limit asks to plan as for a device of that size. Raises InputError when nothing fits, saying what would.
    """
    about_layers = (machine.disk, told.slots, told.resident)
    if machine.offload == "auto" and any(said is not None for said in about_layers):
        machine = replace(machine, offload="layer")
    _refuse_what_changes_nothing(machine, told)
    spread(told.resident or 0, checkpoint.layout.components["video_dit"].config["num_layers"])  # refuses too many
    limited = told.vram is not None or told.ram is not None
    has_card = machine.device.type == "cuda" or told.vram is not None
    if clips and has_card and (machine.offload in ("auto", "layer") or limited):
        plan, budget = _choose(machine, told, checkpoint, clips)
        report.say(plan.line(budget))
        return replace(
            machine,
            offload=machine.offload if machine.offload != "auto" else plan.offload,
            slots=plan.slots or machine.slots,
            resident=plan.resident if plan.offload == "layer" else 0,
            keeps_text=plan.keeps_text if plan.offload == "layer" else machine.keeps_text,
            vae_tiling=plan.tiled if told.vae_tiling is None else told.vae_tiling,
        )
    return replace(
        machine,
        offload="none" if machine.offload == "auto" else machine.offload,
        slots=told.slots or machine.slots,
        resident=told.resident or 0,
        vae_tiling=bool(told.vae_tiling),
    )


def _refuse_what_changes_nothing(machine: Machine, told: Limits) -> None:
    streaming = {"--slots": told.slots, "--resident-layers": told.resident}
    memory = {"--vram-limit": told.vram, "--ram-limit": told.ram}
    useless = {} if machine.offload == "layer" else streaming
    if machine.offload == "group":
        useless = streaming | memory
    if unused := [name for name, value in useless.items() if value is not None]:
        raise InputError(
            f"{' and '.join(unused)} would change nothing with --offload {machine.offload}; use --offload auto or layer"
        )
    if told.ram is not None and told.vram is None and machine.device.type != "cuda":
        raise InputError(f"--ram-limit needs a device to plan for, and this is {machine.device}; give --vram-limit too")


def _choose(
    machine: Machine, told: Limits, checkpoint: Checkpoint, clips: Sequence[ClipPlan]
) -> tuple[MemoryPlan, Budget]:
    from phonofilm.evaluation.flops import forward_flops

    denoiser, itemsize = _denoiser(checkpoint, machine.computing.quantize), machine.dtype.itemsize
    sizes = {name: checkpoint.component_bytes(name, itemsize) for name in checkpoint.layout.components}
    decoders = sizes["video_vae"] + sizes["audio_vae"]
    blocks = _text_blocks(checkpoint, itemsize)
    model = Footprint.of(denoiser, checkpoint.experts, sizes["text_encoder"], decoders, itemsize, blocks)
    geometry = max((clip.task.geometry for clip in clips), key=lambda one: one.video_tokens)
    flops = forward_flops(denoiser, geometry.video_tokens, geometry.audio_latents, TEXT_LENGTH).total
    whole, tiled = (
        sizes["video_vae"]
        + _decoding(checkpoint, geometry.height * geometry.width, geometry.num_frames, itemsize, tiles)
        for tiles in (False, True)
    )
    work = ClipCost(
        geometry.video_tokens,
        flops,
        evaluations=max(len(scales.evaluations) for clip in clips for scales in clip.guidance),
        steps=max(len(clip.steps) for clip in clips),
        decoding=tiled if told.vae_tiling else whole,
        decoding_tiled=0 if told.vae_tiling is False else tiled,
    )
    stored = {entry.dtype for entry in checkpoint.layout.components["text_encoder"].entries.values()}
    streaming = StreamingOptions(
        slots=told.slots or machine.slots,
        resident=told.resident,
        on_disk=machine.disk is not None,
        text_encoder_mapped=stored == {machine.dtype},
    )
    budget = _budget(machine, told)
    kind = {"cpu": "model", "auto": None}.get(machine.offload, machine.offload)
    return choose_offload(budget, model, work, cast("Offload | None", kind), streaming), budget


def _budget(machine: Machine, told: Limits) -> Budget:
    host = psutil.virtual_memory().available if told.ram is None else told.ram
    if machine.device.type != "cuda":
        assert told.vram is not None
        return Budget(told.vram, host)
    free, _ = torch.cuda.mem_get_info(machine.device)
    name = torch.cuda.get_device_name(machine.device)
    return Budget(free if told.vram is None else told.vram, host, known_peak(name))


def _denoiser(checkpoint: Checkpoint, quantize: str | None) -> JointDenoiser:
    """One expert with what it shares, without weights."""
    expert, audio, bridge = (
        empty_module(part.class_name, part.config, str(part.folder / "config.json"))
        for part in (checkpoint.layout.components[name] for name in ("video_dit", "audio_dit", "dual_tower_bridge"))
    )
    if quantize is not None:
        for network in (expert, audio, bridge):
            empty_quantized(network, quantize)
    assert isinstance(expert, WanModel)
    assert isinstance(audio, WanAudioModel)
    assert isinstance(bridge, DualTowerConditionalBridge)
    return JointDenoiser(expert, audio, bridge)


def _text_blocks(checkpoint: Checkpoint, itemsize: int) -> TextBlocks:
    text = checkpoint.layout.components["text_encoder"]
    module = empty_module(text.class_name, text.config, str(text.folder / "config.json"))
    assert isinstance(module, UMT5EncoderModel)
    blocks = [[weight.numel() * itemsize for weight in block.parameters()] for block in module.encoder.block]
    return TextBlocks(max(map(sum, blocks)), max(map(max, blocks)), module.config.d_model * itemsize)


def _decoding(checkpoint: Checkpoint, pixels: int, frames: int, itemsize: int, tiled: bool) -> int:
    width = checkpoint.layout.components["video_vae"].config.get("base_dim", DECODER_WIDTH)
    return decoding_bytes(pixels, frames, itemsize, width, tiled=tiled)
