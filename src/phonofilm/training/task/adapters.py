"""LoRA adapters in a model that trains: put in by exact names, started from a generator, taken out as a LoRA file.

Names: a part (high, low, audio, bridge) is a module of the joint model; a component is the same in files (video_dit, ...).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.lora.adapter import Adapter, Layout, LoraFile
from phonofilm.lora.components import SHORT_NAMES
from phonofilm.lora.target_layers import ATTENTION_TARGETS, adapted_layers
from phonofilm.models.quantized import QuantizedLinear
from phonofilm.training.config.finetune_config import AdapterConfig, LoraConfig, Part
from phonofilm.training.task.adapter_switch import SwitchedAdapter
from phonofilm.training.task.joint_task import JointModel

FFN_TARGETS = ("ffn.0", "ffn.2")
DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"
# Where each part lives in a joint model.
PART_PREFIXES: dict[Part, str] = {
    "high": "high.video",
    "low": "low.video",
    "audio": "high.audio",
    "bridge": "high.bridge",
}


ADAPTED_COLUMNS = ("part", "layers", "targets", "rank", "alpha", "lr", "parameters")


@dataclass(frozen=True)
class AdaptedPart:
    """The adapters of one part: the layers that have one, of how many, and how many numbers are trained."""

    part: Part
    layers: tuple[str, ...]
    config: AdapterConfig
    parameters: int

    @property
    def targets(self) -> list[str]:
        """The ends of the layers' names, each once: q, ffn.0."""
        return sorted({re.sub(r"^.*?([^.]+(\.\d+)?)$", r"\1", layer) for layer in self.layers})

    @property
    def row(self) -> tuple[str, ...]:
        """In words, under ADAPTED_COLUMNS."""
        rate = "optimizer.lr" if self.config.lr is None else f"{self.config.lr:g}"
        about = (str(self.config.rank), f"{self.config.alpha:g}", rate, f"{self.parameters:,}")
        return (self.part, str(len(self.layers)), ", ".join(self.targets), *about)


def parts_of(model: JointModel) -> dict[Part, nn.Module]:
    """The networks of a joint model by part; low is missing where there is one expert."""
    return {part: model.get_submodule(prefix) for part, prefix in PART_PREFIXES.items() if part != "low" or model.low}


def part_of(name: str) -> Part:
    """The part a parameter of a joint model belongs to. Raises InputError for one outside them."""
    for part, prefix in PART_PREFIXES.items():
        if name.startswith(f"{prefix}."):
            return part
    raise InputError(f"parameter {name} belongs to none of {', '.join(PART_PREFIXES)}")


def add_adapters(model: JointModel, config: LoraConfig, seed: int) -> tuple[AdaptedPart, ...]:
    """Freeze the model and give the configured parts float32 adapters; they change nothing yet, for lora_B is zero.

    Raises InputError for a part that the model lacks.
    """
    model.requires_grad_(False)
    networks = parts_of(model)
    generator = torch.Generator().manual_seed(seed)
    added = []
    for part in PART_PREFIXES:
        adapter: AdapterConfig | None = getattr(config, part)
        if adapter is None:
            continue
        if part not in networks:
            raise InputError(f"lora.{part} is set, but the model has one expert; set lora.{part}=null")
        targets = (*ATTENTION_TARGETS, *(FFN_TARGETS if adapter.ffn else ()))
        component = SHORT_NAMES[part]
        layers = adapted_layers({component: networks[part]}, targets)[component]
        parameters = _inject(networks[part], layers, adapter, config.dropout, generator)
        added.append(AdaptedPart(part, layers, adapter, parameters))
    return tuple(added)


def lora_file(weights: Mapping[str, Tensor], config: LoraConfig, metadata: Mapping[str, str]) -> LoraFile:
    """Trained weights, by their names in the joint model, as a LoRA file; a part whose every lora_B is zero is left out."""
    adapters: dict[str, dict[str, Adapter]] = {}
    for name, down in weights.items():
        if not name.endswith(DOWN):
            continue
        part, up = part_of(name), weights[name.removesuffix(DOWN) + UP]
        path = name.removeprefix(f"{PART_PREFIXES[part]}.").removesuffix(DOWN)
        adapter: AdapterConfig = getattr(config, part)
        halves = [tensor.detach().cpu().contiguous() for tensor in (down, up)]
        adapters.setdefault(SHORT_NAMES[part], {})[path] = Adapter(halves[0], halves[1], adapter.alpha)
    trained = {c: layers for c, layers in adapters.items() if any(bool(a.up.any()) for a in layers.values())}
    return LoraFile(Layout.PHONOFILM, trained, metadata)


def _inject(
    network: nn.Module, layers: tuple[str, ...], adapter: AdapterConfig, dropout: float, generator: torch.Generator
) -> int:
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
        from peft.tuners.lora import Linear
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error

    class LinearWithLora(SwitchedAdapter, Linear):
        """peft's adapter of a linear layer. Of its base it asks in_features, out_features and a product only, so that a
        quantised layer may be one.

        Under autocast it hands on what it is given: autocast rounds for the product anyway, and peft's float32 copy of the
        input, kept for the backward pass, changed no number.
        """

        def forward(self, x: Tensor, *arguments: Any, **settings: Any) -> Tensor:
            if self.bypassed:
                plain: Tensor = self.get_base_layer()(x)
                return plain
            result: Tensor = super().forward(x, *arguments, **settings)
            return result

        def _cast_input_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
            return x if torch.is_autocast_enabled(x.device.type) else super()._cast_input_dtype(x, dtype)

    peft = PeftConfig(r=adapter.rank, lora_alpha=adapter.alpha, lora_dropout=dropout, target_modules=list(layers))
    peft._register_custom_module({nn.Linear: LinearWithLora, QuantizedLinear: LinearWithLora})
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type")
        inject_adapter_in_model(peft, network)
    trained = {name: parameter for name, parameter in network.named_parameters() if "lora_" in name}
    # peft shortens long lists of names to suffixes; whatever it does, these layers and no others must have been reached.
    assert trained.keys() == {f"{layer}{half}" for layer in layers for half in (DOWN, UP)}
    for name, parameter in trained.items():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
        if name.endswith(DOWN):
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
        else:
            nn.init.zeros_(parameter)
    return sum(parameter.numel() for parameter in trained.values())
