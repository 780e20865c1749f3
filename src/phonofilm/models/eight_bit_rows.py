"""Rows of 8-bit numbers with a scale each: of weights (fp8, int8), of activations (fp8), and the product of the two in fp8.

Shapes: n rows, i in features, o out features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from phonofilm.kernels import ops

# Largest magnitude of a row's values.
ROW_TYPES = {"fp8": (torch.float8_e4m3fn, 448.0), "int8": (torch.int8, 127.0)}
ROWS_OF_A_TILE = 256


class Fp8Rows(NamedTuple):
    """Activations in fp8: values [...,i], a float32 scale per row [...,1], and the dtype they had and products will have."""

    values: Tensor
    scale: Tensor
    dtype: torch.dtype


def quantize_rows(rows: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """rows [...,i] -> 8-bit values [...,i] and their scale, float32 [...,1]: rows ~ values * scale. Zeros stay zero."""
    dtype, largest = ROW_TYPES[kind]
    low, high = torch.aminmax(rows, dim=-1, keepdim=True)
    magnitude = torch.maximum(-low, high).float()
    scale = magnitude.clamp(min=torch.finfo(torch.float32).tiny * largest) / largest
    scaled = rows / scale  # float32, as the scale is
    return (scaled if dtype.is_floating_point else scaled.round()).to(dtype), scale


def quantize_activations(x: Tensor, *, fused: bool) -> Fp8Rows:
    """x [...,i] in fp8, by the fused kernel or by PyTorch's operations."""
    values, scale = ops.quantize_rows_fp8(x) if fused else quantize_rows(x, "fp8")
    return Fp8Rows(values, scale, x.dtype)


def multiply_fp8(x: Fp8Rows, weight: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """x [...,i] times a stored weight float8 [o,i] with its scale [o,1], plus bias [o] -> [...,o] in x's dtype."""

    def product() -> Tensor:
        # The kernel writes 16-bit results only; a float32 model gets its dtype back after it.
        return torch._scaled_mm(
            x.values.flatten(0, -2),
            weight.t(),
            scale_a=whole_tiles(x.scale.flatten(0, -2)),
            scale_b=whole_tiles(weight_scale).t(),
            bias=None if bias is None else bias.to(torch.bfloat16),
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )

    result: Tensor = _on_the_kernels_stream(product, weight.device).to(x.dtype).unflatten(0, x.values.shape[:-1])
    return result


def whole_tiles(scale: Tensor) -> Tensor:
    """scale [n,1] in memory that goes on to a multiple of 256 rows.

    PyTorch's row-wise product reads the scales of the last tile whole, past the end of a shorter tensor (pytorch #133334).
    """
    count = scale.shape[0]
    if count % ROWS_OF_A_TILE == 0:
        return scale
    room = scale.new_empty(-(-count // ROWS_OF_A_TILE) * ROWS_OF_A_TILE, 1)[:count]
    return room.copy_(scale)


def ignores_streams(capability: tuple[int, int], torch_version: tuple[int, int]) -> bool:
    """Whether the row-wise product starts on the default stream whichever is current: pytorch #177651, mended in 2.12."""
    return capability == (8, 9) and torch_version < (2, 12)


def _on_the_kernels_stream(product: Callable[[], Tensor], device: torch.device) -> Tensor:
    """`product()` on the current stream, or where it ignores that, on the default one, ordered before and after."""
    if device.type != "cuda" or not ignores_streams(torch.cuda.get_device_capability(device), _torch_version()):
        return product()
    current, default = torch.cuda.current_stream(device), torch.cuda.default_stream(device)
    default.wait_stream(current)
    with torch.cuda.stream(default):
        result = product()
    current.wait_stream(default)
    result.record_stream(current)
    return result


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
