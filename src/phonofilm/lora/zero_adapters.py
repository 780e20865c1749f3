"""Adapters without effect, for readers that expect every layer of a block.

diffusers' converter of kohya's names for Wan (`_convert_musubi_wan_lora_to_diffusers`, diffusers 0.40) takes each block's
eight attention layers and two feed-forward ones out of the file, and fails on the first that is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from phonofilm.errors import CheckpointError
from phonofilm.lora.adapter import Adapter
from phonofilm.lora.ours import json_list
from phonofilm.lora.sources import LoraSource
from phonofilm.lora.tensor_names import Parts

logger = logging.getLogger(__name__)

FILLERS_KEY = "phonofilm_fillers"
VIDEO_TOWERS = ("video_dit", "video_dit_2")
ATTENTION = tuple(f"{attention}.{layer}" for attention in ("self_attn", "cross_attn") for layer in "qkvo")
# The feed-forward widths of Wan's towers by their own, for a LoRA that adapts attention only: 1.3B, 5B and 14B.
WAN_FFN = {1536: 8960, 3072: 14336, 5120: 13824}


def missing_wan_layers(component: str, adapters: Mapping[str, Adapter]) -> dict[str, Adapter]:
    """Rank-1 adapters of zeros for the layers of a video tower's blocks, up to the last adapted one, that have none."""
    blocks = [path.split(".") for path in adapters if path.startswith("blocks.")]
    if component not in VIDEO_TOWERS or not blocks:
        return {}
    widths = {
        path.split(".", 2)[2]: (a.up.shape[0], a.down.shape[1]) for path, a in adapters.items() if path[:7] == "blocks."
    }
    width = next(shape[1] for layer, shape in widths.items() if layer in (*ATTENTION, "ffn.0"))
    hidden = (
        widths["ffn.0"][0] if "ffn.0" in widths else widths["ffn.2"][1] if "ffn.2" in widths else WAN_FFN.get(width)
    )
    if hidden is None:
        logger.warning("%s: a tower %d wide is none of Wan's; diffusers may miss layers in its file", component, width)
        return {}
    sizes = {**dict.fromkeys(ATTENTION, (width, width)), "ffn.0": (hidden, width), "ffn.2": (width, hidden)}
    last = max(int(parts[1]) for parts in blocks)
    wanted = {f"blocks.{block}.{layer}": size for block in range(last + 1) for layer, size in sizes.items()}
    dtype = next(iter(adapters.values())).down.dtype
    return {
        path: Adapter(torch.zeros(1, size[1], dtype=dtype), torch.zeros(size[0], 1, dtype=dtype), 1.0)
        for path, size in wanted.items()
        if path not in adapters
    }


def without_fillers(source: LoraSource, parts: dict[str, Parts]) -> dict[str, Parts]:
    """The file's layers without those that we added. Raises CheckpointError when one of them has an effect after all."""
    fillers = json_list(source, FILLERS_KEY)
    for layer in fillers:
        up = parts[layer].up if layer in parts else None
        if up is not None and bool(up.any()):
            raise CheckpointError(f"{source.path} calls {layer} a filler, but it is not zero")
    return {layer: found for layer, found in parts.items() if layer not in fillers}
