"""What each tensor of a LoRA file is, by the end of its name: a half of some layer's update, or its alpha. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# Longest first: ".lora_A.default.weight" also ends in ".weight".
ROLES = {
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_down.default.weight": "down",
    ".lora_up.default.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A": "down",
    ".lora_B": "up",
    ".alpha": "alpha",
}
EXPECTED = "expected lora_A/lora_B, lora_down/lora_up"


def by_layer(tensors: Mapping[str, T]) -> tuple[dict[str, dict[str, T]], list[str]]:
    """The tensors by layer and role (down, up, alpha), and the keys that belong to no adapter."""
    found: dict[str, dict[str, T]] = {}
    strange: list[str] = []
    for key, tensor in tensors.items():
        suffix = next((suffix for suffix in ROLES if key.endswith(suffix)), None)
        layer = key.removesuffix(suffix or "")
        if suffix is None or ROLES[suffix] in found.get(layer, {}):
            strange.append(key)
        else:
            found.setdefault(layer, {})[ROLES[suffix]] = tensor
    return found, strange
