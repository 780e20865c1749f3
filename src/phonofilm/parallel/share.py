"""A rank's share of the video's tokens: cutting and gathering, and attention of and to all of them.

Shapes: b batch, n tokens here, N tokens of a Ulysses group, m audio tokens, h heads, e head width, d = h*e.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from phonofilm.models.bridge import Clock
from phonofilm.models.joint import Positions
from phonofilm.models.layers import attention
from phonofilm.parallel.mesh import Mesh
from phonofilm.parallel.partial import Partial, attend_part, merge
from phonofilm.parallel.shards import Shards


class VideoShare:
    """Consecutive tokens for each rank of the mesh's sequence side. `divide` says how many there are in all."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._shards: Shards | None = None

    def divide(self, total: int) -> None:
        """Raises InputError for fewer tokens than ranks."""
        self._shards = Shards(total, self.mesh.sequence.size)

    @property
    def shards(self) -> Shards:
        assert self._shards is not None, "divide() comes first"
        return self._shards

    def cut(self, tokens: Tensor, dim: int = 0) -> Tensor:
        """This rank's share of `tokens` along `dim`, in memory of its own."""
        here = self.shards.piece(self.mesh.sequence.place)
        return tokens.narrow(dim, here.start, here.stop - here.start).clone()

    def positions(self, whole: Positions) -> Positions:
        """Positions of this rank's video tokens and of all audio tokens; the grid stays the whole one."""
        clock = whole.clock
        if clock is not None:
            clock = Clock(self.cut(clock.video_cos), self.cut(clock.video_sin), clock.audio_cos, clock.audio_sin)
        return replace(whole, video_rope=self.cut(whole.video_rope), clock=clock)

    def gather(self, here: Tensor) -> Tensor:
        """Every rank's tokens, [b,n,d] -> [b,total,d], on every rank."""
        side = self.mesh.sequence
        # Equal lengths for the exchange only: what was added is cut off again, and nothing computes with it.
        padded = here.new_zeros(self.shards.longest, here.shape[0], here.shape[2])
        padded[: here.shape[1]] = here.transpose(0, 1)
        runs = [run[: self.shards.size(part)] for part, run in enumerate(side.gather(padded))]
        return torch.cat(runs).transpose(0, 1).contiguous()

    def same_everywhere(self, x: Tensor) -> Tensor:
        """The first rank's copy of what all ranks have computed alike."""
        x = x.contiguous()
        dist.broadcast(x, group=self.mesh.sequence.group, group_src=0)
        return x

    def self_attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """q, k, v [b,n,d] of the tokens here, attending to the tokens of all ranks -> [b,n,d]."""
        ulysses = self.mesh.ulysses.size
        if ulysses > 1:
            q, k, v = self._all_tokens_of_some_heads(q, k, v, heads)
        out = self._ring(q, k, v, heads // ulysses) if self.mesh.ring.size > 1 else attention(q, k, v, heads // ulysses)
        return self._all_heads_of_some_tokens(out) if ulysses > 1 else out

    def bridge_attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """q [b,m,d] of all audio tokens, alike on every rank; k, v [b,n,d] of the video tokens here -> [b,m,d]."""
        side = self.mesh.sequence
        if side.size == 1:
            return attention(q, k, v, heads)
        part = attend_part(q, k, v, heads)
        # One exchange for both: the log-sum-exp travels as one more channel, in float32 like the rest.
        ours = torch.cat((part.out.float(), part.weight[..., None]), dim=-1).contiguous()
        return merge(Partial(one[..., :-1], one[..., -1]) for one in side.gather(ours)).flat(q.dtype)

    def _group_sizes(self, ring_place: int) -> list[int]:
        """Tokens of the ranks of one Ulysses group."""
        ulysses = self.mesh.ulysses.size
        return [self.shards.size(ring_place * ulysses + place) for place in range(ulysses)]

    def _all_tokens_of_some_heads(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Iterator[Tensor]:
        """Three times [b,n,d] -> three times [b,N,d/ulysses]."""
        side, sizes = self.mesh.ulysses, self._group_sizes(self.mesh.ring.place)
        # Tokens lead in what is exchanged, so that runs of different lengths lie one after the other.
        sent = torch.stack([t.unflatten(-1, (side.size, -1)) for t in (q, k, v)])  # [3,b,n,u,d/u]
        sent = sent.permute(3, 2, 0, 1, 4).contiguous()
        received = sent.new_empty(sum(sizes), *sent.shape[2:])
        dist.all_to_all_single(received, sent.flatten(0, 1), sizes, [sent.shape[1]] * side.size, group=side.group)
        return (t.transpose(0, 1) for t in received.unbind(1))

    def _all_heads_of_some_tokens(self, out: Tensor) -> Tensor:
        """[b,N,d/ulysses] -> [b,n,d]."""
        side, sizes = self.mesh.ulysses, self._group_sizes(self.mesh.ring.place)
        sent = out.transpose(0, 1).contiguous()
        here = sizes[side.place]
        received = sent.new_empty(side.size * here, *sent.shape[1:])
        dist.all_to_all_single(received, sent, [here] * side.size, sizes, group=side.group)
        return received.unflatten(0, (side.size, here)).permute(2, 1, 0, 3).flatten(-2)

    def _ring(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Keys and values go round; each turn attends to those that are here while the next are on their way."""
        return merge(attend_part(q, held[0], held[1], heads) for held in self._rotating(k, v)).flat(q.dtype)

    def _rotating(self, k: Tensor, v: Tensor) -> Iterator[Tensor]:
        """Every ring member's keys and values, [2,b,N,d], beginning with our own."""
        side = self.mesh.ring
        after, before = (dist.get_global_rank(side.group, (side.place + step) % side.size) for step in (1, -1))
        held = torch.stack((k, v))
        for turn in range(1, side.size):
            origin = (side.place - turn) % side.size
            coming = held.new_empty(2, held.shape[1], sum(self._group_sizes(origin)), held.shape[3])
            moving = dist.batch_isend_irecv(
                [
                    dist.P2POp(dist.isend, held, after, group=side.group),
                    dist.P2POp(dist.irecv, coming, before, group=side.group),
                ]
            )
            yield held
            for work in moving:
                work.wait()
            held = coming
        yield held
