"""A rank's share of the video's tokens: cutting and gathering, and attention of and to all of them.

Gradients go back through all of it.

Shapes: b batch, n tokens here, N tokens of a Ulysses group, m audio tokens, h heads, e head width, d = h*e.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from phonofilm.models.bridge import Clock
from phonofilm.models.joint import Positions
from phonofilm.models.layers import attention
from phonofilm.parallel import collectives
from phonofilm.parallel.mesh import Mesh
from phonofilm.parallel.ring_attention import attend_distributed_keys, ring_attention
from phonofilm.parallel.shard_ranges import ShardRanges


class SequenceShard:
    """Consecutive tokens for each rank of the mesh's sequence axis. `divide` says how many there are in all."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._shards: ShardRanges | None = None

    def divide(self, total: int) -> None:
        """Raises InputError for fewer tokens than ranks."""
        self._shards = ShardRanges(total, self.mesh.sequence.size)

    @property
    def shards(self) -> ShardRanges:
        assert self._shards is not None, "divide() comes first"
        return self._shards

    def cut(self, tokens: Tensor, dim: int = 0) -> Tensor:
        """This rank's share of `tokens` along `dim`, in memory of its own."""
        here = self.shards.piece(self.mesh.sequence.rank)
        return tokens.narrow(dim, here.start, here.stop - here.start).clone()

    def positions(self, whole: Positions) -> Positions:
        """Positions of this rank's video tokens and of all audio tokens; the grid stays the whole one."""
        clock = whole.clock
        if clock is not None:
            clock = Clock(self.cut(clock.video_cos), self.cut(clock.video_sin), clock.audio_cos, clock.audio_sin)
        return replace(whole, video_rope=self.cut(whole.video_rope), clock=clock)

    def gather(self, here: Tensor) -> Tensor:
        """Every rank's tokens, [b,n,d] -> [b,total,d], on every rank."""
        # Equal lengths for the exchange only: what was added is cut off again, and nothing computes with it.
        padded = pad(here.transpose(0, 1), (0, 0, 0, 0, 0, self.shards.longest - here.shape[1]))
        every = collectives.all_gather(padded, self.mesh.sequence)
        runs = [run[: self.shards.size(part)] for part, run in enumerate(every)]
        return torch.cat(runs).transpose(0, 1).contiguous()

    def same_everywhere(self, x: Tensor) -> Tensor:
        """The first rank's copy of what all ranks have computed alike."""
        return collectives.copy_of_first(x, self.mesh.sequence)

    def self_attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """q, k, v [b,n,d] of the tokens here, attending to the tokens of all ranks -> [b,n,d]."""
        q, k = q.to(v.dtype), k.to(v.dtype)  # as autocast would have them: its norms give float32
        ulysses, ring = self.mesh.ulysses.size, self.mesh.ring
        if ulysses > 1:
            q, k, v = self._all_tokens_of_some_heads(q, k, v)
        if ring.size > 1:
            lengths = [sum(self._group_sizes(place)) for place in range(ring.size)]
            out = ring_attention(q, k, v, heads // ulysses, ring, lengths)
        else:
            out = attention(q, k, v, heads // ulysses)
        return self._all_heads_of_some_tokens(out) if ulysses > 1 else out

    def bridge_attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """q [b,m,d] of all audio tokens, alike on every rank; k, v [b,n,d] of the video tokens here -> [b,m,d]."""
        q, k = q.to(v.dtype), k.to(v.dtype)
        axis = self.mesh.sequence
        return attention(q, k, v, heads) if axis.size == 1 else attend_distributed_keys(q, k, v, heads, axis)

    def _group_sizes(self, ring_place: int) -> list[int]:
        """Tokens of the ranks of one Ulysses group."""
        ulysses = self.mesh.ulysses.size
        return [self.shards.size(ring_place * ulysses + place) for place in range(ulysses)]

    def _all_tokens_of_some_heads(self, q: Tensor, k: Tensor, v: Tensor) -> Iterator[Tensor]:
        """Three times [b,n,d] -> three times [b,N,d/ulysses]."""
        axis, sizes = self.mesh.ulysses, self._group_sizes(self.mesh.ring.rank)
        # Tokens lead in what is exchanged, so that runs of different lengths lie one after the other.
        sent = torch.stack([t.unflatten(-1, (axis.size, -1)) for t in (q, k, v)])  # [3,b,n,u,d/u]
        sent = sent.permute(3, 2, 0, 1, 4).flatten(0, 1)
        received = collectives.all_to_all(sent, [q.shape[1]] * axis.size, sizes, axis)
        return (t.transpose(0, 1) for t in received.unbind(1))

    def _all_heads_of_some_tokens(self, out: Tensor) -> Tensor:
        """[b,N,d/ulysses] -> [b,n,d]."""
        axis, sizes = self.mesh.ulysses, self._group_sizes(self.mesh.ring.rank)
        here = sizes[axis.rank]
        received = collectives.all_to_all(out.transpose(0, 1), sizes, [here] * axis.size, axis)
        result: Tensor = received.unflatten(0, (axis.size, here)).permute(2, 1, 0, 3).flatten(-2)
        return result
