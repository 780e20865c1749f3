"""Adapters that can be passed by for a while, so that one set of weights is a model with them and without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class SwitchedAdapter:
    """A linear layer with an adapter. While `bypassed` it computes what its base layer computes, bit for bit."""

    bypassed = False


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """A block in which the model's adapters do nothing. Not to be differentiated through: the backward pass, which may
    compute layers anew, finds them on again."""
    switched = [module for module in model.modules() if isinstance(module, SwitchedAdapter)]
    for module in switched:
        module.bypassed = True
    try:
        yield
    finally:
        for module in switched:
            module.bypassed = False
