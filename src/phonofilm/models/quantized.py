"""Linear layers with weights of 8 or 4 bits, and which layers of the networks they may replace.

What stays as it is: norms, modulation, embeddings, heads, and what the bridge norms with (pooling, AdaLN). Lossy, and
therefore never a default.

Shapes: n rows, i in features, o out features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.kernels.choice import FusibleModule
from phonofilm.kernels.fp8_support import has_fp8
from phonofilm.models.eight_bit_rows import ROW_TYPES, Fp8Rows, multiply_fp8, quantize_activations, quantize_rows

FORMATS = ("fp8", "int8", "nf4")
CONFIG_KEY = "quantization_config"
METHOD = "phonofilm"
NF4_BLOCK = 64
QUANTIZED_COMPONENTS = ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge")
_LAYERS = re.compile(r"(?:^blocks\.\d+\.(?:self_attn|cross_attn)|\.inner)\.[qkvo]$|^blocks\.\d+\.ffn\.[02]$")


class _Stored(nn.Parameter):
    """A parameter whose dtype is not the network's but the format's."""


class QuantizedLinear(FusibleModule):
    """A linear layer of in_features i and out_features o whose weight does not learn.

    `weight` and `weight_scale` are plain tensors, so the layer is saved, moved and streamed like any other. fp8 and int8:
    values [o,i], scale [o,1]. nf4: two values a byte [o*i/2], scale per 64 values.

    In evaluation mode fp8 multiplies in fp8 on GPUs that can (compute capability 8.9 and up), with activations quantised
    row by row; everything else multiplies with the weights brought back to the activations' dtype, which gradients pass.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool, kind: str) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kind = in_features, out_features, kind
        if kind == "nf4":
            count = in_features * out_features
            weight = torch.empty(math.ceil(count / 2), dtype=torch.uint8)
            scale = torch.empty(math.ceil(count / NF4_BLOCK))
        else:
            weight = torch.empty(out_features, in_features, dtype=ROW_TYPES[kind][0])
            scale = torch.empty(out_features, 1)
        self.weight, self.weight_scale = _Stored(weight, False), _Stored(scale, False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None

    @classmethod
    def of(cls, layer: nn.Linear, kind: str) -> QuantizedLinear:
        """`layer` quantised, where it is."""
        with torch.device("meta"):
            made = cls(layer.in_features, layer.out_features, layer.bias is not None, kind)
        values, scale = _packed(layer.weight.detach(), kind)
        made.weight, made.weight_scale = _Stored(values, False), _Stored(scale, False)
        if layer.bias is not None:
            made.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
        return made.train(layer.training)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight it stands for: [o,i] in `dtype`."""
        if self.kind == "nf4":
            return _nf4_values(self.weight, self.weight_scale, (self.out_features, self.in_features), dtype)
        return (self.weight.float() * self.weight_scale).to(dtype)

    def multiplies_in_fp8(self, device: torch.device) -> bool:
        """Whether the product on `device` is one of fp8. What is on the meta device stands for a GPU that can."""
        shapes = self.in_features % 16 == 0 and self.out_features % 16 == 0
        return (
            self.kind == "fp8" and not self.training and shapes and device.type in ("cuda", "meta") and has_fp8(device)
        )

    def forward(self, x: Tensor | Fp8Rows) -> Tensor:
        """x [..,i], or such activations in fp8 already, for a layer that multiplies so -> [..,o]."""
        if isinstance(x, Fp8Rows):
            return multiply_fp8(x, self.weight, self.weight_scale, self.bias)
        if self.multiplies_in_fp8(x.device):
            return self.in_fp8(x)
        return F.linear(x, self.dequantized(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def in_fp8(self, x: Tensor) -> Tensor:
        """x [..,i] quantised row by row, times the weight as it is stored: [..,o], in x's dtype."""
        result: Tensor = self(quantize_activations(x, fused=self.fused))
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """Moves everything, converts the bias alone: another dtype would spoil the stored values."""

        def keeping_type(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            stored = tensor is self.weight or tensor is self.weight_scale
            return tensor.to(changed.device) if stored and changed.dtype != tensor.dtype else changed

        super()._apply(keeping_type, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, {self.kind}"


def multiply_in_fp8(layers: Sequence[nn.Module], device: torch.device) -> bool:
    """Whether all of `layers` multiply in fp8 on `device`. One that an adapter stands around does not."""
    return all(isinstance(layer, QuantizedLinear) and layer.multiplies_in_fp8(device) for layer in layers)


def quantized_once(x: Tensor | Fp8Rows, *layers: nn.Module) -> Tensor | Fp8Rows:
    """x as all of `layers` read it: quantised once if they all multiply in fp8, as it is otherwise."""
    if isinstance(x, Fp8Rows) or not multiply_in_fp8(layers, x.device):
        return x
    return quantize_activations(x, fused=all(isinstance(layer, FusibleModule) and layer.fused for layer in layers))


QUANTIZED_COLUMNS = ("layers", "MB before", "MB after", "error", "worst layer")


@dataclass(frozen=True)
class QuantizationReport:
    """What quantising one network did. Bytes of all its weights; error of the changed ones: |W' - W| / |W|, over all and the
    worst layer's."""

    layers: int
    bytes_before: int
    bytes_after: int
    error: float
    worst_error: float
    worst_layer: str

    @property
    def row(self) -> tuple[str, ...]:
        """In words, under QUANTIZED_COLUMNS."""
        sizes = (f"{self.bytes_before / 1e6:,.1f}", f"{self.bytes_after / 1e6:,.1f}")
        return (str(self.layers), *sizes, f"{self.error:.4f}", f"{self.worst_error:.4f} {self.worst_layer}")


def check_quantization(kind: str) -> None:
    """Raises InputError for an unknown format, or one whose library is not installed."""
    if kind not in FORMATS:
        raise InputError(f"quantisation {kind!r} is unknown; use one of {', '.join(FORMATS)}")
    if kind == "nf4":
        _bitsandbytes()


def quantize_network(network: nn.Module, kind: str) -> QuantizationReport:
    """Replace the linear layers of one tower or bridge, in place, one at a time.

    Raises InputError for an unknown format, or when there is nothing to replace (quantised already, or another network).
    """
    check_quantization(kind)
    before = _bytes_of(network)
    names = list(_replaceable(network, nn.Linear))
    if not names:
        raise InputError(f"a {type(network).__name__} has no layers to quantise; or it is quantised already")
    wrong = whole = 0.0
    worst, worst_layer = 0.0, names[0]
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        made = QuantizedLinear.of(layer, kind)
        exact = layer.weight.detach().float()
        missed, size = float((made.dequantized(torch.float32) - exact).square().sum()), float(exact.square().sum())
        if size > 0 and (error := math.sqrt(missed / size)) > worst:
            worst, worst_layer = error, name
        wrong, whole = wrong + missed, whole + size
        _replace(network, name, made)
    _register(network, kind)
    return QuantizationReport(
        len(names), before, _bytes_of(network), math.sqrt(wrong / whole) if whole else 0.0, worst, worst_layer
    )


def prepare_for(network: nn.Module, config: Mapping[str, Any], origin: str) -> None:
    """Give a network without weights the quantised layers that its config asks for, if any.

    Raises CheckpointError, naming the file `origin`, for a quantisation that is not ours.
    """
    stored = config.get(CONFIG_KEY)
    if stored is None:
        return
    if not isinstance(stored, Mapping) or stored.get("quant_method") != METHOD or stored.get("format") not in FORMATS:
        raise CheckpointError(
            f"{origin} has {CONFIG_KEY} {stored!r:.200}; expected quant_method {METHOD!r} and a format of {', '.join(FORMATS)}"
        )
    empty_quantized(network, stored["format"])


def empty_quantized(network: nn.Module, kind: str) -> None:
    """`quantize` for a network without weights (on the meta device): layers of the right shapes and types."""
    for name in list(_replaceable(network, nn.Linear)):
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        with torch.device("meta"):
            made = QuantizedLinear(layer.in_features, layer.out_features, layer.bias is not None, kind)
        _replace(network, name, made)
    _register(network, kind)


def format_of(network: nn.Module) -> str | None:
    """The format a network is quantised in, or None."""
    return next((m.kind for m in network.modules() if isinstance(m, QuantizedLinear)), None)


def is_stored(tensor: Tensor) -> bool:
    """Whether a parameter holds quantised values or their scales, whose dtype is part of what they mean."""
    return isinstance(tensor, _Stored)


def loaded_dtype(parameter: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype a parameter has in a network that is loaded in `dtype`."""
    return parameter.dtype if is_stored(parameter) else dtype


def _register(network: nn.Module, kind: str) -> None:
    network.register_to_config(**{CONFIG_KEY: {"quant_method": METHOD, "format": kind}})  # type: ignore[operator]


def _replaceable(network: nn.Module, kind: type[nn.Module]) -> Iterator[str]:
    return (name for name, module in network.named_modules() if type(module) is kind and _LAYERS.search(name))


def _replace(network: nn.Module, name: str, made: nn.Module) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(path), leaf, made)


def _bytes_of(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())


def _packed(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    if kind != "nf4":
        return quantize_rows(weight, kind)
    packed, state = _bitsandbytes().quantize_4bit(weight.contiguous(), blocksize=NF4_BLOCK, quant_type="nf4")
    return packed.flatten(), state.absmax.float()


def _nf4_values(packed: Tensor, scale: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    library = _bitsandbytes()
    # Handed over one block per row: for rows that are not whole blocks, bitsandbytes 0.50 takes the wrong block's scale on
    # processors with AVX-512.
    blocks = scale.numel()
    whole = F.pad(packed, (0, blocks * NF4_BLOCK // 2 - packed.numel()))
    state = library.QuantState(
        absmax=scale,
        shape=torch.Size((blocks, NF4_BLOCK)),
        code=library.get_4bit_type("nf4", device=packed.device),
        blocksize=NF4_BLOCK,
        quant_type="nf4",
        dtype=dtype,
    )
    result: Tensor = library.dequantize_4bit(whole[:, None], state).flatten()[: math.prod(shape)].reshape(shape)
    return result


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes.functional
    except ImportError as error:
        raise InputError("nf4 needs the package bitsandbytes; install phonofilm[quantize]") from error
    return bitsandbytes.functional
