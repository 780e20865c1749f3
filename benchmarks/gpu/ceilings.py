"""What this card can do at best, measured bare: the products a video block is made of, in bfloat16 and in fp8."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.context import Context
from benchmarks.gpu.stages import Skipped
from benchmarks.timing import median_seconds
from phonofilm.kernels import ops
from phonofilm.kernels.fp8_support import has_fp8
from phonofilm.models.eight_bit_rows import Fp8Rows, multiply_fp8, quantize_activations, quantize_rows

REPEATS = 8
# Rows of a product: of the sound, of a short clip's sound, of the text. None but the last is a multiple of 256.
FEW_ROWS = (403, 36, 512)


def products(context: Context) -> None:
    """The widest linear layer, alone, with GELU in its epilogue, and with GELU after it."""
    shape, device = context.shape, context.device
    x = torch.randn(shape.tokens, shape.width, device=device, dtype=context.dtype)
    weight = torch.randn(shape.wide, shape.width, device=device, dtype=context.dtype) / shape.width**0.5
    bias = torch.randn(shape.wide, device=device, dtype=context.dtype)
    flops = 2 * shape.tokens * shape.width * shape.wide

    def after() -> Tensor:
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")

    ways: dict[str, Callable[[], Tensor]] = {
        "matmul": lambda: x @ weight.t(),
        "linear": lambda: F.linear(x, weight, bias),
        "linear, GELU in its epilogue": lambda: ops.linear_gelu(x, weight, bias),
        "linear, then GELU": after,
    }
    with torch.no_grad():
        for name, way in ways.items():
            seconds = median_seconds(way, device, REPEATS, warm_up=2)
            context.row(name, {"seconds": seconds, "flops_s": flops / seconds, "rows": shape.tokens})
        apart = (ops.linear_gelu(x, weight, bias).float() - after().float()).norm() / after().float().norm()
    context.row("GELU in the epilogue beside GELU after", {"relative_difference": float(apart)})


@torch.no_grad()
def fp8_products(context: Context) -> None:
    """Row-wise scaled products, with as many rows as the picture, the sound and the text have."""
    if not has_fp8(context.device):
        raise Skipped("this card multiplies no fp8; compute capability 8.9 does")
    shape, device = context.shape, context.device
    weight = torch.randn(shape.wide, shape.width, device=device, dtype=context.dtype) / shape.width**0.5
    stored, weight_scale = quantize_rows(weight, "fp8")
    for count in (*FEW_ROWS, shape.tokens):
        x = torch.randn(count, shape.width, device=device, dtype=context.dtype)
        rows = quantize_activations(x, fused=False)
        few = min(count, 512)
        expected = (rows.values[:few].float() * rows.scale[:few]) @ (stored.float() * weight_scale).t()

        def product(rows: Fp8Rows = rows) -> Tensor:
            return multiply_fp8(rows, stored, weight_scale, None)

        error = float((product()[:few].float() - expected).norm() / expected.norm())
        seconds = median_seconds(product, device, REPEATS, warm_up=2)
        flops = 2 * count * shape.width * shape.wide
        context.row("fp8 product", {"rows": count, "flops_s": flops / seconds, "relative_error": error})
