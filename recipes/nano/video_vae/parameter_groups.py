"""Which of an autoencoder's weights Muon updates, and which AdamW."""

from __future__ import annotations

from torch import nn


def split_parameters(model: nn.Module, plain: tuple[str, ...] = ()) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(for Muon, for AdamW): convolution and linear weights, and everything else plus the weights named in `plain`."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = name.endswith("weight") and parameter.ndim >= 2 and not name.startswith(plain)
        (matrices if hidden else rest).append(parameter)
    return matrices, rest
