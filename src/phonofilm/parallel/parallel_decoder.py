"""The picture's decoder on several ranks: each has a run of rows, and neighbours exchange the rows at their edges.

What it computes is what one rank computes: a convolution sees its neighbours' rows, attention sees them all. Only the order
in which a kernel adds may differ with the height it is given.

Shapes: h rows of all ranks, r rows here, w columns; every tensor ends with rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanCausalConv3d
from torch import Tensor, nn

from phonofilm.models.convolutions import channels_last_on_gpu
from phonofilm.parallel.mesh import MeshAxis
from phonofilm.parallel.shard_ranges import ShardRanges
from phonofilm.pipeline.conditions import denormalize

ROWS = -2


class ParallelDecoder:
    """Makes `vae.decode` the work of all ranks along `axis`: each calls it with the same latents and gets all frames.

    Works for decoding whole and in tiles, whose rows are shared tile by tile. With fewer rows of latents than ranks, every
    rank decodes them all.
    """

    def __init__(self, vae: AutoencoderKLWan, axis: MeshAxis) -> None:
        self._axis = axis
        self._shards: ShardRanges | None = None
        vae.decoder.register_forward_pre_hook(self._cut, with_kwargs=True)
        vae.decoder.register_forward_hook(self._gather_frames)
        for module in vae.decoder.modules():
            if isinstance(module, WanAttentionBlock):
                module.register_forward_pre_hook(lambda _, args: (self._gather(args[0]), *args[1:]))
                module.register_forward_hook(lambda _, args, out: self._own(out))
            elif isinstance(module, nn.Conv2d | nn.Conv3d):
                self._share_rows_of(module)

    def _share_rows_of(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        """Its padding of rows is what neighbours have there; zeros only at the picture's edges."""
        if convolution.kernel_size[ROWS] == 1:
            return
        assert convolution.kernel_size[ROWS] == 3, "one row on either side is what neighbours exchange"
        if isinstance(convolution, WanCausalConv3d):
            columns, _, _, _, *time = convolution._padding
            convolution._padding = (columns, columns, 0, 0, *time)
            convolution.register_forward_pre_hook(self._widen_causal)
        else:
            convolution.padding = (0, int(convolution.padding[-1]))
            convolution.register_forward_pre_hook(lambda _, args: (self._widened(args[0]),))

    def _widen_causal(self, convolution: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Both the frames of now and the remembered ones before them, in one exchange."""
        now, *before = args
        if not before or before[0] is None:
            return (self._widened(now),)
        lengths = (before[0].shape[2], now.shape[2])
        before_now = self._widened(torch.cat((before[0], now), dim=2)).split(lengths, dim=2)
        return before_now[1], before_now[0]

    def _widened(self, x: Tensor) -> Tensor:
        """x [...,r,w] with one more row above and below: [...,r+2,w]."""
        if self._shards is None:
            return F.pad(x, (0, 0, 1, 1))
        place, last = self._axis.rank, self._axis.size - 1
        above, below = (torch.zeros_like(x[..., :1, :]) for _ in range(2))
        exchange = [
            *(self._swap(x[..., :1, :], above, place - 1) if place > 0 else ()),
            *(self._swap(x[..., -1:, :], below, place + 1) if place < last else ()),
        ]
        for work in dist.batch_isend_irecv(exchange):
            work.wait()
        return torch.cat((above, x, below), dim=ROWS)

    def _swap(self, ours: Tensor, theirs: Tensor, place: int) -> Iterator[dist.P2POp]:
        group = self._axis.group
        neighbour = dist.get_global_rank(group, place)
        yield dist.P2POp(dist.isend, ours.contiguous(), neighbour, group=group)
        yield dist.P2POp(dist.irecv, theirs, neighbour, group=group)

    def _cut(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Latents [b,c,f,h,w] -> the rows of this rank."""
        latents, *rest = args
        rows, ranks = latents.shape[ROWS], self._axis.size
        self._shards = ShardRanges(rows, ranks) if rows >= ranks else None
        return (self._own(latents), *rest), kwargs

    def _gather_frames(self, decoder: nn.Module, args: tuple[Any, ...], frames: Tensor) -> Tensor:
        return self._gather(frames)

    def _own(self, x: Tensor) -> Tensor:
        """This rank's rows of [...,h,w], whose rows may be a multiple of the latents'."""
        if self._shards is None:
            return x
        scale, here = x.shape[ROWS] // self._shards.total, self._shards.piece(self._axis.rank)
        return x.narrow(ROWS, here.start * scale, (here.stop - here.start) * scale).contiguous()

    def _gather(self, x: Tensor) -> Tensor:
        """[...,r,w] of every rank -> [...,h,w]."""
        shards = self._shards
        if shards is None:
            return x
        scale = x.shape[ROWS] // shards.size(self._axis.rank)
        # Equal heights for the exchange only: what was added is cut off again.
        missing = (shards.longest - shards.size(self._axis.rank)) * scale
        every = self._axis.gather(F.pad(x, (0, 0, 0, missing)).contiguous())
        return torch.cat([one.narrow(ROWS, 0, shards.size(part) * scale) for part, one in enumerate(every)], dim=ROWS)


def assist_decoding(vae: AutoencoderKLWan, latents: Tensor) -> None:
    """A rank's part in decoding normalised latents [b,c,f,h,w] that another rank wants: `decode_video` without its result."""
    channels_last_on_gpu(vae, latents.device)  # as decode_video does, so that all ranks compute alike
    for clip in denormalize(vae, latents).split(1):
        vae.decode(clip.to(vae.dtype))
