"""Compiles every Triton kernel for a compute capability, with no GPU: `compile_kernels.py 90 bf16 [fp32]`.

A program of its own: in the tests' process Triton interprets. Prints a line for each kernel; fails if one does not compile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from phonofilm.kernels import norms, quantization, rotations
from phonofilm.kernels.launching import warps

WIDTHS = {"bf16": 5120, "fp32": 1536}
"""Rows of the video tower in bfloat16, of the audio tower in float32."""
HIDDEN = 13824
NUMBERS = dict.fromkeys(("tokens", "width", "gate_stride", "factor_stride", "shift_stride"), "i32") | {"eps": "fp32"}
TABLES = dict.fromkeys(("factor", "scale", "out_scale", "table", "cos", "sin"), "*fp32")


@dataclass(frozen=True)
class Variant:
    """A kernel with the constants it is compiled for. `fp8`: the arguments that point to float8."""

    kernel: Any
    width: int
    constants: dict[str, int | bool]
    fp8: tuple[str, ...] = ()

    def source(self, dtype: str) -> ASTSource:
        types = NUMBERS | TABLES | dict.fromkeys(self.constants, "constexpr") | dict.fromkeys(self.fp8, "*fp8e4nv")
        signature = {name: types.get(name, f"*{dtype}") for name in self.kernel.arg_names}
        return ASTSource(self.kernel, signature, self.constants)


def variants(width: int) -> Iterator[Variant]:
    """Every kernel as the fused operations launch it, over rows of `width`."""
    block = triton.next_power_of_2(width)
    for update, gate, quantizes in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 1, 1)):
        constants = {"HAS_UPDATE": bool(update), "HAS_GATE": bool(gate), "QUANTIZES": bool(quantizes), "BLOCK": block}
        yield Variant(norms.norm_row, width, constants, ("out",) if quantizes else ())
    yield Variant(rotations.rotate_pairs_row, width, {"HEAD": 128, "BLOCK": block})
    yield Variant(rotations.rotate_halves_row, width, {"HALF": 64, "BLOCK": block // 2})
    yield Variant(quantization.quantize_row, width, {"GELU": False, "BLOCK": block}, ("values",))
    wide = triton.next_power_of_2(HIDDEN)
    yield Variant(quantization.quantize_row, HIDDEN, {"GELU": True, "BLOCK": wide}, ("values",))


def main() -> None:
    capability, *dtypes = sys.argv[1:]
    for dtype in dtypes:
        for variant in variants(WIDTHS[dtype]):
            if variant.fp8 and int(capability) < 89:
                continue
            target, options = GPUTarget("cuda", int(capability), 32), {"num_warps": warps(variant.width)}
            made = triton.compile(variant.source(dtype), target, options)
            size = len(made.asm["cubin"])
            print(f"sm_{capability} {dtype} {variant.kernel.__name__} {variant.constants}: {size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
