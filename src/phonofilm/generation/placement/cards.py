"""What is known of a graphics card by its name."""

from __future__ import annotations

# Vendors' dense bfloat16 peaks, TFLOP/s. A name is matched as part of what the driver reports.
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "RTX 4090": 165, "RTX 3090": 71}


def known_peak(name: str) -> float | None:
    """FLOP/s of a device in dense bfloat16 by its maker's data sheet, or None for one not listed here."""
    return next((peak * 1e12 for part, peak in PEAKS.items() if part in name), None)
