"""Which parameters of a fused layer share a slab of memory, and in which order. No memory is taken here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from torch import nn

from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layers import Block
from phonofilm.runtime.slabs import HostSlab

Group = tuple[nn.Module, ...]
"""Modules that share a slab."""


def layer_groups(expert: JointDenoiser, index: int) -> Iterator[Group]:
    """The modules of fused layer `index` by slab: the expert's own block, and what it shares with the other expert."""
    own, *shared = expert.layer_modules(index)
    yield (own,)
    if shared:
        yield tuple(shared)


def parameters_of(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Every parameter once, in order."""
    return list(dict.fromkeys(parameter for module in modules for parameter in module.parameters()))


def text_parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The weights in these modules that only make the texts' keys and values."""
    blocks = [module for module in modules if isinstance(module, Block)]
    return list(dict.fromkeys(parameter for block in blocks for parameter in block.cross_attn.text_parameters()))


def slab_parameters(group: Group) -> list[nn.Parameter]:
    """The parameters of a group in the order they have in a slab: those that only texts need come last."""
    last = text_parameters(group)
    behind = set(last)
    return [parameter for parameter in parameters_of(group) if parameter not in behind] + last


def bytes_before(slab: HostSlab, last: Collection[int]) -> int:
    """Bytes of a slab in front of the parameters in `last` (by id) that stand together at its end."""
    end = slab.nbytes
    for parameter, piece in zip(reversed(slab.parameters), reversed(slab.layout.pieces), strict=True):
        if id(parameter) not in last:
            break
        end = piece.offset
    return end
