"""torch.compile of what a fused layer is made of: blocks and bridge directions. Never of a whole network.

Layers of one kind share one compiled function, whoever's weights they have: compiling takes as long for 40 as for one, and
weights may be streamed, because only their memory changes, not their shapes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Sequence

import torch
from diffusers.models.modeling_utils import ModelMixin

from phonofilm.errors import InputError

CPP_COMPILERS = ("g++", "clang++", "c++")
# Kinds of layers times shapes: sizes of clip, lengths of text. Past it PyTorch would stop compiling without a word.
MOST_SHAPES = 64


def require_compiler(device: torch.device) -> None:
    """Raises InputError when PyTorch could not compile for `device` here."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError(
            "compile=True on CUDA needs the package triton; install phonofilm[kernels] or leave compile= out"
        )
    named = os.environ.get("CXX")
    wanted = (named,) if named else CPP_COMPILERS
    if not any(shutil.which(name) for name in wanted):
        raise InputError(
            f"compile=True needs a C++ compiler, and there is no {' or '.join(wanted)} here; install g++, name one in the "
            "environment variable CXX, or leave compile= out"
        )


def compile_layers(networks: Sequence[ModelMixin]) -> None:
    """Compile the layers of these towers and bridges; it happens when each kind runs first."""
    # Rotations come in a complex table, which compiled layers only read as pairs of real numbers: nothing is slower for it.
    warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex operators")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
    for network in networks:
        network.compile_repeated_blocks()
