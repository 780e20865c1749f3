"""A tiny model's components and LoRAs for them, for the tests of LoRA files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.unit.checkpoints import GOLDEN
from torch import nn

from phonofilm.lora.adapter import Adapter, Layout, LoraFile
from phonofilm.lora.target_layers import ALL_TARGETS, adapted_layers, linear_layers
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_components

OTHERS = ("audio_vae", "video_vae", "text_encoder", "tokenizer")


def tiny_components() -> dict[str, nn.Module]:
    return load_components(read_layout(GOLDEN, OTHERS), torch.float32, skip=OTHERS)


def tiny_lora(
    components: dict[str, nn.Module],
    rank: int = 4,
    alpha: float = 2.0,
    targets: Sequence[str] = ALL_TARGETS,
    only: Sequence[str] | None = None,
    seed: int = 0,
    **metadata: str,
) -> LoraFile:
    """Random adapters for `targets`; `only` some components, all by default."""
    generator = torch.Generator().manual_seed(seed)
    shapes = linear_layers(components)
    adapters = {
        component: {
            path: Adapter(
                torch.randn(rank, shapes[component][path][1], generator=generator),
                torch.randn(shapes[component][path][0], rank, generator=generator),
                alpha,
            )
            for path in paths
        }
        for component, paths in adapted_layers(components, targets).items()
        if only is None or component in only
    }
    return LoraFile(Layout.PHONOFILM, adapters, metadata)


def write(tensors: dict[str, torch.Tensor], path: Path, **header: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, header)
    return path


def named(lora: LoraFile, component: str, form: str, down: str, up: str, alpha: str = "") -> dict[str, torch.Tensor]:
    """One component's tensors, layers named by `form` ("{path}" or "{flat}"), with the given endings."""
    tensors = {}
    for path, adapter in lora.adapters[component].items():
        layer = form.format(path=path, flat=path.replace(".", "_"), component=component)
        tensors[layer + down], tensors[layer + up] = adapter.down, adapter.up
        if alpha:
            tensors[layer + alpha] = torch.tensor(adapter.alpha)
    return tensors
