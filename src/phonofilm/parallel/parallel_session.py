"""A rank's part in making clips: what it agrees on with the others, and how its pipeline is made to share the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.media.clip import Clip
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.video import WanModel
from phonofilm.parallel.degrees import choose_degrees
from phonofilm.parallel.mesh import Mesh, make_mesh
from phonofilm.parallel.parallel_decoder import ParallelDecoder, assist_decoding
from phonofilm.parallel.parallel_engine import ParallelEngine
from phonofilm.parallel.rank import Rank, broadcast_number
from phonofilm.parallel.sequence_denoiser import shard_sequence
from phonofilm.parallel.sequence_shard import SequenceShard
from phonofilm.parallel.sharded_weights import ShardedWeights
from phonofilm.pipeline.denoising import ExpertName
from phonofilm.pipeline.mova import MovaPipeline

# What a rank may do with weights that wait: a streamer's place in the pipeline is taken here.
SHARED_OFFLOADS = ("none", "model", "cpu", "group")


@dataclass(frozen=True)
class ParallelConfig:
    """How many devices were asked for, and how they share; None is chosen by `choose_degrees`."""

    gpus: int = 1
    ulysses_degree: int | None = None
    ring_degree: int | None = None
    cfg_parallel: bool = False
    shard_weights: bool = False


@dataclass
class ParallelSession:
    """This process as one of the ranks that make the same clips. Inside `launcher.process_group` only."""

    rank: Rank
    device: torch.device
    asked: ParallelConfig
    _mesh: Mesh | None = field(default=None, init=False)

    @property
    def is_first(self) -> bool:
        """Whether this rank reports and writes."""
        return self.rank.is_first

    def offload(self, asked: str) -> str:
        """Where weights wait, for a word of `offload`. Raises InputError for one that does not go with several devices."""
        chosen = "none" if asked == "auto" else asked
        if chosen not in SHARED_OFFLOADS:
            raise InputError(
                f"offload={asked} is for one device; with several use offload={', '.join(SHARED_OFFLOADS)}, "
                "or shard_weights=True"
            )
        if self.asked.shard_weights and chosen != "none":
            raise InputError(f"shard_weights keeps weights on the devices, and offload={asked} off them; give one")
        return chosen

    def meet(self, heads: int, attention: str) -> str:
        """Make the mesh for a video tower of so many heads; all ranks call it, before weights are read. Returns it in words.

        Raises InputError if heads or attention backend do not fit.
        """
        degrees = choose_degrees(
            self.rank.world,
            heads,
            ulysses=self.asked.ulysses_degree,
            ring=self.asked.ring_degree,
            cfg_parallel=self.asked.cfg_parallel,
        )
        if degrees.ring > 1 and attention != "native":
            raise InputError(
                f"attention {attention} cannot be merged over a ring; use ring_degree=1, or leave attn_backend out"
            )
        self._mesh = make_mesh(degrees, self.device)
        parts = ", weights in parts" if self.asked.shard_weights else ""
        return f"{self.rank.world} devices: {degrees}{parts}"

    def agree(self, number: int) -> int:
        """The first rank's value of a number, such as a seed."""
        return broadcast_number(number)

    def share_clip(self, clip: Clip | None, frame_rate: Fraction, sampling_rate: int) -> Clip:
        """The first rank's clip, which has a sound; the others give None."""
        frames = self._share_array(None if clip is None else clip.frames, np.dtype(np.uint8), 4)
        audio = self._share_array(None if clip is None else clip.audio, np.dtype(np.float32), 2)
        return Clip(frames, frame_rate, audio, sampling_rate)

    def _share_array(self, array: np.ndarray | None, kind: np.dtype[Any], axes: int) -> np.ndarray:
        shape = [self.agree(0 if array is None else array.shape[axis]) for axis in range(axes)]
        shared = torch.from_numpy(np.zeros(shape, kind) if array is None else np.array(array))
        dist.broadcast(shared, src=0)
        result: np.ndarray = shared.numpy()
        return result

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Around loading and `share`: one rank after the other when all weights go through host memory."""
        if not self.asked.shard_weights:
            yield
            return
        for _ in range(self.rank.number):
            dist.barrier()
        yield
        for _ in range(self.rank.world - self.rank.number):
            dist.barrier()

    def share(self, pipe: MovaPipeline) -> None:
        """Give the pipeline the engine that shares its forwards, and share its picture's decoder. After `meet`."""
        assert self._mesh is not None
        towers: dict[ExpertName, WanModel | None] = {"high": pipe.video_dit, "low": pipe.video_dit_2}
        experts = {
            name: JointDenoiser(tower, pipe.audio_dit, pipe.dual_tower_bridge)
            for name, tower in towers.items()
            if tower is not None
        }
        members = shard_sequence(list(experts.values()), SequenceShard(self._mesh))
        weights = None
        if self.asked.shard_weights:
            weights = ShardedWeights(members, self._mesh)
            pipe.to(self.device)
        pipe.engine = ParallelEngine(dict(zip(experts, members, strict=True)), self._mesh, weights)
        ParallelDecoder(pipe.video_vae, self._mesh.everyone)

    def assist(self, pipe: MovaPipeline, latents: Tensor) -> None:
        """This rank's part in decoding the picture that the first rank decodes: normalised latents [b,c,f,h,w]."""
        assist_decoding(pipe.video_vae, latents)
        pipe.maybe_free_model_hooks()
