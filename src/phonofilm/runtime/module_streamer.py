"""A stack of blocks that is streamed while the module around it runs: the text encoder, whose weights stay where they lie.

Its blocks are used once per call, so they have no slabs: they go from wherever they are (maps of a checkpoint's files, as
a rule) through two pieces of pinned memory into slots that exist for the length of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.ring import SLOTS, Ring
from phonofilm.runtime.slabs import SlabLayout
from phonofilm.runtime.staging import Staging


class ModuleStreamer:
    """Makes `module`, in host memory, run on the backend's device, block by block; gradients do not flow through it.

    Call the module as if it were on the device; what `embedding` looks up may be anywhere. `close` undoes it.

    Args:
        blocks: of `module`, called one after the other in this order, each once per call.
        embedding: of `module`; it looks up its rows on the host, because a table is large and few rows are needed.
        before: called first in every call, to make room on the device.
    """

    def __init__(
        self,
        module: nn.Module,
        blocks: Sequence[nn.Module],
        embedding: nn.Module,
        backend: Backend,
        *,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend, self._before = backend, before
        self._weights = [list(block.parameters()) for block in blocks]
        for weight in (weight for weights in self._weights for weight in weights):
            if type(weight.data) is not Tensor or weight.device.type != "cpu":
                raise InputError(
                    f"a {type(weight.data).__name__} on {weight.device} cannot be streamed; expected plain tensors in "
                    "host memory: load the model on the CPU"
                )
        self._layouts = [SlabLayout.of(weight.data for weight in weights) for weights in self._weights]
        elsewhere = {*embedding.parameters(), *(weight for weights in self._weights for weight in weights)}
        self._around = [weight for weight in module.parameters() if weight not in elsewhere]
        self._call = ExitStack()
        self._block = ExitStack()
        self._ring: Ring[int] | None = None
        self._slots: list[Tensor] = []
        self._hooks = [
            module.register_forward_pre_hook(self._begin),
            module.register_forward_hook(self._end, always_call=True),
            embedding.register_forward_pre_hook(lambda _, ids: tuple(one.cpu() for one in ids)),
            embedding.register_forward_hook(lambda _, ids, rows: rows.to(backend.device)),
            *(block.register_forward_pre_hook(partial(self._enter, index)) for index, block in enumerate(blocks)),
        ]

    @property
    def streamed_bytes(self) -> int:
        """Bytes copied to the device for one call."""
        return sum(weight.nbytes for weights in self._weights for weight in weights)

    def close(self) -> None:
        """The module runs on the host again."""
        self._call.close()
        for hook in self._hooks:
            hook.remove()

    def _begin(self, *_: object) -> None:
        self._call.close()  # of a call that was interrupted
        self._before()
        self._call.enter_context(self._streaming())

    def _end(self, *_: object) -> None:
        self._call.close()

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        """Slots, pinned pieces and what surrounds the blocks, for one call."""
        backend, host_data = self._backend, [weight.data for weight in self._around]
        staging = Staging(backend, max(weight.nbytes for weights in self._weights for weight in weights))
        try:
            for weight in self._around:
                weight.data = weight.data.to(backend.device)
            largest = max(layout.nbytes for layout in self._layouts)
            self._slots = [backend.allocate(largest) for _ in range(SLOTS)]
            self._ring = Ring(SLOTS, backend, partial(self._fetch, staging))
            self._ring.expect(range(len(self._weights)))
            yield
        finally:
            if self._ring is not None:
                self._ring.expect(())
            self._block.close()
            self._ring = None
            for weight, data in zip(self._around, host_data, strict=True):
                weight.data = data
            backend.synchronize()  # before pinned memory that is being copied from is given up
            staging.close()
            self._slots.clear()

    def _enter(self, index: int, *_: object) -> None:
        """Put the weights of block `index` in place, until the next one is entered or the call ends."""
        assert self._ring is not None
        self._block.close()
        slot = self._block.enter_context(self._ring.use(index))
        for weight, view in zip(self._weights[index], self._layouts[index].views(self._slots[slot]), strict=True):
            self._block.callback(setattr, weight, "data", weight.data)
            weight.data = view

    def _fetch(self, staging: Staging, index: int, slot: int) -> None:
        try:
            for weight, view in zip(self._weights[index], self._layouts[index].views(self._slots[slot]), strict=True):
                staging.copy(_bytes(weight.data), _bytes(view))
        except (RuntimeError, OSError) as error:
            raise PhonofilmError(
                f"copying block {index} of the text encoder ({self._layouts[index].nbytes / 1e6:.0f} MB) to "
                f"{self._backend.device} failed: {error}"
            ) from error


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
