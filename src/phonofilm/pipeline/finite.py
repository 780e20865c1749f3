"""Stops a run whose numbers are NaN or infinite: after its first step rather than at its end, and never with a file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phonofilm.errors import PhonofilmError


def require_finite(what: str, *tensors: Tensor) -> None:
    """Raises PhonofilmError when `what` holds NaN or infinity."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise PhonofilmError(
            f"{what} holds NaN or infinity, so nothing can be made of it: the weights are damaged (phonofilm models verify "
            "--deep finds where), a LoRA is far too strong, or the precision is too small (use bfloat16 or float32)"
        )


def require_finite_weights(name: str, module: nn.Module) -> None:
    """Raises PhonofilmError when a weight of `module` is NaN or infinite; those that are not in memory now are passed over,
    as are modules that diffusers' group offloading manages: what it put on a disk leaves uninitialised tensors behind.

    For the VAEs, whose decoders clamp what they make: an infinite weight would show as a white picture only.
    """
    if any(hasattr(part, "_diffusers_hook") for part in module.modules()):
        return
    tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point() and not t.is_meta]
    require_finite(f"the {name}", *tensors)
