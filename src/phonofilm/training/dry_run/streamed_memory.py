"""What distilling takes on the device in mode low_resource, from shapes alone: nothing is measured, nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from phonofilm.runtime.footprint import Footprint, reserved_for
from phonofilm.runtime.ring import SLOTS

# Of an adapter's number, in float32: itself, its gradient and AdamW's two moments; and its average, where one is kept.
COPIES, WITH_AVERAGE = 4, 5


@dataclass(frozen=True)
class StreamedMemory:
    """Bytes on the device. adapters: with their optimizer. weights: layers in their slots and what surrounds all layers.
    kept: states between layers, which gradient checkpointing keeps; layer: what is alive while one layer is differentiated."""

    adapters: int
    weights: int
    kept: int
    layer: int

    def device(self, activation_offload: bool = False) -> int:
        """With `activation_offload` the kept states wait in host memory."""
        moving = self.layer + (0 if activation_offload else self.kept)
        return self.adapters + self.weights + reserved_for(moving)


def streamed_memory(
    footprint: Footprint, adapters: int, video_tokens: int, layer: int, *, average: bool = True
) -> StreamedMemory:
    """Of a micro-batch of one clip. `adapters`: numbers that are trained. `layer`: as `differentiated_bytes` counts it."""
    return StreamedMemory(
        adapters * 4 * (WITH_AVERAGE if average else COPIES),
        SLOTS * max(footprint.layers) + footprint.around,
        len(footprint.layers) * video_tokens * footprint.state_bytes_per_token,
        layer,
    )


def differentiated_bytes(forward: Callable[[], Tensor], largest: int) -> int:
    """Bytes of the tensors that a forward keeps for its backward pass, each storage once; on the meta device they take none.

    Tensors of more than `largest` numbers are left out: attention's weights, which only the meta device's attention keeps.
    """
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and tensor.numel() <= largest:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    hooks: AbstractContextManager[None] = saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.enable_grad():
        forward()
    return sum(nbytes for _, nbytes in kept.values())
