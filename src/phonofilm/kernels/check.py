"""Do the fused kernels compute, on this very device, what PyTorch's operations compute? Tried on a few rows before use.

A kernel is compiled for the machine it runs on, by its compiler and driver: having been right elsewhere is not enough.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from phonofilm.kernels.cases import Sizes, cases
from phonofilm.kernels.fp8_support import has_fp8

# Widths of the released audio and video tower.
TRIED = ((torch.float32, Sizes(width=1536)), (torch.bfloat16, Sizes(width=5120)))


@lru_cache
def complaint(device: torch.device) -> str | None:
    """What is wrong with the kernels on `device`, in words; None when nothing is. Tried once in a process.

    Kernels that write fp8 are tried where it exists; elsewhere nothing uses them.
    """
    generator = torch.Generator().manual_seed(0)
    for dtype, sizes in TRIED:
        for case in cases(device, dtype, sizes, generator, fp8=has_fp8(device)):
            try:
                with torch.no_grad():
                    error = case.error()
            except Exception as failure:  # noqa: BLE001 - a compiler, a driver or a launch may fail in any way
                first_line = str(failure).strip().partition("\n")[0]
                return f"{case.name} does not run: {type(failure).__name__}: {first_line}"
            if not error <= case.allowed:  # NaN is not
                return (
                    f"{case.name} in {str(dtype).removeprefix('torch.')} is {error:.2g} away from PyTorch's operations"
                )
    return None
