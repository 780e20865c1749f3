"""How a kernel that gives each row to one program is launched: its warps, and the strides of rows that samples share."""

from __future__ import annotations

from torch import Tensor


def warps(width: int) -> int:
    """Warps for a row of `width` channels that is held in registers."""
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


def sample_stride(row: Tensor) -> int:
    """Elements from one sample's row to the next: 0 for a row that all samples share. row [b or 1,1,d] or [d]."""
    assert row.stride(-1) == 1, f"a row with stride {row.stride(-1)}; expected contiguous channels"
    return row.stride(0) if row.ndim == 3 and row.shape[0] > 1 else 0
