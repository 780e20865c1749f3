"""A pipeline whose towers and bridge are quantised. What that does to a layer: models/quantized.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonofilm.errors import InputError
from phonofilm.models.quantized import (
    QUANTIZED_COMPONENTS,
    QuantizationReport,
    check_quantization,
    format_of,
    quantize_network,
)

if TYPE_CHECKING:
    from phonofilm.pipeline.mova import MovaPipeline


def quantize_pipeline(pipe: MovaPipeline, kind: str) -> dict[str, QuantizationReport]:
    """Quantise every tower and the bridge of `pipe` in place to "fp8", "int8" or "nf4"; says what it did to each.

    Weights must be where they compute or in host memory, and LoRAs merged already. Raises InputError for an unknown
    format, and for a pipeline that is quantised already.
    """
    check_quantization(kind)
    networks = {name: getattr(pipe, name) for name in QUANTIZED_COMPONENTS if getattr(pipe, name) is not None}
    for name, network in networks.items():
        if (before := format_of(network)) is not None:
            raise InputError(f"{name} is quantised to {before} already; quantise the original checkpoint")
    return {name: quantize_network(network, kind) for name, network in networks.items()}
