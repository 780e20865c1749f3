"""What a computation costs, counted instead of timed: FLOPs, elementwise bytes, float64 tensors, peak live bytes.

Works on any device; on meta tensors it counts the true 14B shapes with no GPU and no memory. It counts what a CUDA
device runs eagerly: RMSNorm and attention are one kernel each there, while the meta device spells them out.

Shapes: b batch, h heads, n queries, m keys, e head width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_flop_count

import phonofilm.kernels.ops  # noqa: F401 - defines the operators of the formula below

FLOAT64 = (torch.float64, torch.complex128)
ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


@dataclass(frozen=True)
class Counts:
    """What one call did on its device.

    Attributes:
        flops: of matrix products, convolutions and attention; two per multiply-add.
        elementwise_bytes: read plus written by every other operation.
        elementwise_bytes_by_op: the same, per ATen operation.
        float64_tensors: tensors of dtype float64 or complex128 that were made (views are not made).
        peak_live_bytes: most bytes alive at once, the call's inputs included, its weights not.
    """

    flops: int
    elementwise_bytes: int
    elementwise_bytes_by_op: Mapping[str, int]
    float64_tensors: int
    peak_live_bytes: int


def count(call: Callable[[], object], *, inputs: Iterable[Tensor], weights: Iterable[Tensor] = ()) -> Counts:
    """Run `call` without gradients and count what it does on the device of `inputs`.

    inputs: tensors alive before the call that belong to its working memory. weights: tensors that do not.
    """
    counter = _OpCounter(list(inputs), weights)
    with torch.no_grad(), counter, _DeviceKernels(counter):
        call()
    traffic = dict(counter.traffic.most_common())
    return Counts(counter.flops, sum(traffic.values()), traffic, counter.float64_tensors, counter.live.peak)


@register_flop_formula(torch.ops.phonofilm.linear_gelu)
def _linear_gelu_flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * math.prod(x) * weight[0]


class _LiveBytes:
    """Bytes of the storages that are alive, and the most there ever were."""

    def __init__(self, ignored: Iterable[Tensor]) -> None:
        self._ignored = {t.untyped_storage()._cdata for t in ignored}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __contains__(self, tensor: Tensor) -> bool:
        key = tensor.untyped_storage()._cdata
        return key in self._alive or key in self._ignored

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Forget what has died since the last call, then note `tensors`. A weak reference keeps an address from reuse."""
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._ignored:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))


class _OpCounter(TorchDispatchMode):
    """Sees every ATen operation below autograd."""

    def __init__(self, inputs: list[Tensor], weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = inputs[0].device
        self.flops = 0
        self.float64_tensors = 0
        self.traffic: Counter[str] = Counter()
        self.live = _LiveBytes(weights)
        self.live.add(inputs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = self._here(result)
        if not made:
            return result
        written_only = {argument.name for argument in func._schema.arguments if argument.is_out}
        read = self._here((args, {name: value for name, value in kwargs.items() if name not in written_only}))
        storages = {t.untyped_storage()._cdata for t in self._here((args, kwargs))}
        new = [t for t in made if t.untyped_storage()._cdata not in storages]
        self.float64_tensors += sum(t.dtype in FLOAT64 for t in new)
        self.live.add(new)
        name = func.overloadpacket.__name__
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result)
        elif (new or func._schema.is_mutable) and name not in ALLOCATIONS:
            self.add_traffic(name, read, made)
        return result

    def add_traffic(self, name: str, read: Iterable[Tensor], written: Iterable[Tensor]) -> None:
        self.traffic[name] += sum(_bytes(t) for t in (*read, *written))

    def _here(self, tree: object) -> list[Tensor]:
        return [t for t in tree_leaves(tree) if isinstance(t, Tensor) and t.device == self.device]


class _DeviceKernels(TorchFunctionMode):
    """Replaces what CUDA runs as one kernel by its output's shape, before the meta device spells it out."""

    def __init__(self, counter: _OpCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.rms_norm, torch.rms_norm):
            return self._rms_norm(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _rms_norm(self, x: Tensor, _shape: Any, weight: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        out = torch.empty_like(x)
        self.counter.add_traffic("rms_norm", [x] if weight is None else [x, weight], [out])
        return out

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        """q [b,h,n,e], k and v [b,h,m,e] -> like q, in q's memory layout, as the fused kernels return it."""
        self.counter.flops += sdpa_flop_count(query.shape, key.shape, value.shape)
        return torch.empty_like(query)


def _bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements: a broadcast (stride 0) dimension is read once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride != 0 else min(size, 1)
    return count * tensor.element_size()
