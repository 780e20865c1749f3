"""The engine of a pipeline that runs on several ranks: assigns the evaluations of a step to ranks and gathers their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from phonofilm.models.joint import JointOutput, Positions
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_many
from phonofilm.parallel.mesh import Mesh
from phonofilm.parallel.sequence_denoiser import SequenceParallelDenoiser
from phonofilm.parallel.sharded_weights import ShardedWeights
from phonofilm.pipeline.denoising import ExpertName, wake


class ParallelEngine:
    """All ranks call it with the same arguments and get the same outputs, to the bit.

    Args:
        denoisers: the experts by name, made by `shard_sequence`.
        weights: whoever gathers the layers' weights, when the ranks have only parts of them.
    """

    def __init__(
        self, denoisers: dict[ExpertName, SequenceParallelDenoiser], mesh: Mesh, weights: ShardedWeights | None = None
    ) -> None:
        self._denoisers = denoisers
        self._mesh = mesh
        self._weights = weights
        self._whole: Positions | None = None
        self._here: Positions | None = None

    @torch.no_grad()
    def __call__(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]:
        denoiser = self._denoisers[expert]
        for module in (denoiser.video, denoiser.audio, denoiser.bridge):
            wake(module)
        inputs = replace(inputs, positions=self._positions(denoiser, inputs.positions))
        mine = self._assigned(conditionings)
        if self._weights is None:
            outputs = forward_many(denoiser, inputs, mine, _in_place)
        else:
            outputs = self._weights.forward_many(denoiser, inputs, mine)
        return self._gathered(outputs)[: len(conditionings)]

    def release(self, expert: ExpertName) -> None:
        """Forget an expert; its memory is free once the pipeline has forgotten it too."""
        del self._denoisers[expert]

    def _positions(self, denoiser: SequenceParallelDenoiser, whole: Positions | None) -> Positions | None:
        """This rank's positions, cut once for a clip."""
        if whole is not None and whole is not self._whole:
            denoiser.shard.divide(whole.grid[0] * whole.grid[1] * whole.grid[2])
            self._whole, self._here = whole, denoiser.shard.positions(whole)
        return None if whole is None else self._here

    def _assigned(self, conditionings: Sequence[Conditioning]) -> list[Conditioning]:
        """Every cfg-th conditioning. All ranks get as many: where none is left, the last is evaluated again and not used."""
        axis = self._mesh.cfg
        rounds = -(-len(conditionings) // axis.size)
        return [conditionings[min(turn * axis.size + axis.rank, len(conditionings) - 1)] for turn in range(rounds)]

    def _gathered(self, outputs: list[JointOutput]) -> list[JointOutput]:
        if self._mesh.cfg.size == 1:
            return outputs
        video = self._all_of(torch.stack([output.video for output in outputs]))
        audio = self._all_of(torch.stack([output.audio for output in outputs]))
        return [JointOutput(*both) for both in zip(video, audio, strict=True)]

    def _all_of(self, mine: Tensor) -> Tensor:
        """[rounds,...] of every cfg rank -> [rounds*cfg,...] in the order they were assigned."""
        return torch.stack(self._mesh.cfg.gather(mine), dim=1).flatten(0, 1)


def _in_place(layer: int) -> AbstractContextManager[object]:
    return nullcontext()
