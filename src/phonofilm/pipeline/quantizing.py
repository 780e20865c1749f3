"""A pipeline, or a checkpoint, whose towers and bridge are quantised. What that does to a layer: models/quantized.py."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from phonofilm.errors import InputError
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.hub import resolve_model
from phonofilm.models.quantized import (
    QUANTIZED_COMPONENTS,
    QuantizationReport,
    check_quantization,
    format_of,
    quantize_network,
)
from phonofilm.models.saving import require_replaceable
from phonofilm.pipeline.mova import MovaPipeline

logger = logging.getLogger(__name__)

DTYPES = {"keep": None, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


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


def quantize_checkpoint(
    model: str, kind: str, dtype: str, output: Path, overwrite: bool
) -> dict[str, QuantizationReport]:
    """Write a model quantised; what it did to each network. `dtype`: of what stays unquantised, or "keep"."""
    check_quantization(kind)
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
    require_replaceable(output.absolute(), overwrite)
    folder = resolve_model(model)
    if (folder / STUDENT_FILE).is_file():
        logger.warning(
            "%s is written without %s: quantised weights take no LoRA. To have its few steps, merge it first, with phonofilm "
            "lora merge few-steps --model %s -o FOLDER, and quantise that",
            output,
            STUDENT_FILE,
            model,
        )
    pipe = MovaPipeline.from_pretrained(folder, torch_dtype=DTYPES[dtype])
    reports = quantize_pipeline(pipe, kind)
    pipe.save_pretrained(output, overwrite=overwrite)
    return reports
