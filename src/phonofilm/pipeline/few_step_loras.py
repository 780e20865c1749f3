"""Which LoRA files are distilled ones, by their metadata or, for those of others, by their names and what they cover."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from phonofilm.errors import InputError
from phonofilm.lora.adapter import Layout, LoraFile
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.lora.reading import read_lora
from phonofilm.models.config_check import FEW_STEPS_KEY
from phonofilm.pipeline.few_steps import FewSteps, few_steps_from

# Wan 2.2's few-step LoRAs in circulation: lightx2v's, also under the name Lightning. They were made for timesteps 1000,
# 937.5, 833.3 and 625, which are the grid of four steps at shift 5, without guidance, experts changing at 0.9.
WAN_FEW_STEPS = FewSteps(steps=4, video_shift=5.0, audio_shift=5.0, boundary_ratio=0.9)
WAN_NAME = re.compile(r"lightx2v|lightning|seko|4[-_ ]?steps?(?![a-z])", re.IGNORECASE)
# lightx2v's folders name the LoRA and hold these files.
PLAIN_NAME = re.compile(r"(high|low)_noise_model")
VIDEO_TOWERS = {"video_dit", "video_dit_2"}
# MOVA's own layouts, in which no LoRA of Wan comes.
OWN_LAYOUTS = {Layout.PHONOFILM, Layout.ORIGINAL, Layout.LOW_RESOURCE}


def few_steps_of_lora(lora: LoraFile, name: str) -> FewSteps | None:
    """What a LoRA must be sampled with, or None where it is no distilled one. `name`: its file's path, or as much as is known.

    Raises CheckpointError when its metadata says so and cannot be read.
    """
    if FEW_STEPS_KEY in lora.metadata:
        return few_steps_from(lora.metadata[FEW_STEPS_KEY], f"the LoRA {name}")
    return WAN_FEW_STEPS if wan_name(lora, name) is not None else None


def wan_name(lora: LoraFile, name: str) -> str | None:
    """The word in a file's name by which a LoRA is taken for a few-step one of Wan, or None.

    A file with our metadata, or in a layout of MOVA's own, is none: it would say so itself.
    """
    if lora.layout in OWN_LAYOUTS or lora.metadata or not set(lora.adapters) <= VIDEO_TOWERS:
        return None
    path = Path(name)
    found = WAN_NAME.search(path.parent.name if PLAIN_NAME.fullmatch(path.stem) else path.name)
    return None if found is None else found.group()


def read_saying_steps(
    path: Path, components: Mapping[str, nn.Module | None] | None, *, expert: str | None, alpha: float | None
) -> LoraFile:
    """`read_lora`, with the settings of a few-step LoRA of Wan in the metadata: a copy under another name is known by them."""
    lora = read_lora(path, components, expert=expert, alpha=alpha)
    if wan_name(lora, str(path.absolute())) is None:
        return lora
    return replace(lora, metadata={FEW_STEPS_KEY: WAN_FEW_STEPS.as_json()})


def few_steps_of_loras(loras: Mapping[str, LoraFile]) -> FewSteps | None:
    """What LoRAs that work together must be sampled with. Raises InputError when two of them want different things."""
    found = {name: few for name, lora in loras.items() if (few := few_steps_of_lora(lora, name)) is not None}
    if len(set(found.values())) > 1:
        raise InputError(f"{' and '.join(found)} were distilled for different settings; use one of them")
    return next(iter(found.values()), None)


def uncovered_parts(loras: Mapping[str, LoraFile]) -> list[str]:
    """The parts of the model that no distilled LoRA among these reaches; none where there is no such LoRA."""
    distilled = [lora for name, lora in loras.items() if few_steps_of_lora(lora, name) is not None]
    covered = {component for lora in distilled for component in lora.adapters}
    return [component for component in LORA_COMPONENTS if component not in covered] if distilled else []
