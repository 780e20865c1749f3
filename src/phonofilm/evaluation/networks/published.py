"""From a published file of weights to a network that computes with them. Where the file lies is not known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.lora.pickles import load_pickle

Network = TypeVar("Network", bound=nn.Module)
_SHOWN = 3


def read_published(path: Path, key: str = "") -> dict[str, Tensor]:
    """The tensors by name of a .pth, .pt or .model file; `key`: the entry of the file that holds them.

    Raises CheckpointError for a damaged or unsafe file, and for one without that entry.
    """
    content = load_pickle(path, old_formats=True)
    found: Any = content.get(key) if key else content
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} has no entry {key!r} with tensors; it has {', '.join(map(str, content))}")
    return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def load_network(
    build: Callable[[], Network], state: Mapping[str, Tensor], origin: Path, device: str = "cpu"
) -> Network:
    """The network that `build` makes, with every tensor taken from `state`, in float32 and for inference.

    Tensors that it does not have are left out: published files hold other towers too. Raises CheckpointError for tensors
    that are missing or of another shape.
    """
    with torch.device("meta"):
        network = build()
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    for names, what in ((missing, "lacks"), (wrong, "has other shapes of")):
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            raise CheckpointError(
                f"{origin} {what} {len(names)} of the {len(wanted)} tensors of {type(network).__name__}: {shown}"
            )
    kept = {name: _as_needed(state[name], tensor) for name, tensor in wanted.items()}
    network.load_state_dict(kept, assign=True)
    return network.to(device).eval().requires_grad_(False)


def _as_needed(tensor: Tensor, wanted: Tensor) -> Tensor:
    """Its own memory in the dtype the network expects: a mapped file may be replaced while it is used."""
    return tensor.detach().to(wanted.dtype, copy=True)
