"""Which of the student's steps a micro-batch learns, with which expert, and whether a track is held: by its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from phonofilm.errors import InputError
from phonofilm.pipeline.denoising import ExpertName
from phonofilm.training.config.finetune_config import FinetuneConfig
from phonofilm.training.task.distill_batch import Held


@dataclass(frozen=True)
class SegmentTurn:
    """The step, counted from 0, and which track is held while it is learnt."""

    segment: int
    held: Held = "none"


class SegmentTurns:
    """A pure function of the config and the number of the micro-step, so that all processes take the same turn.

    `alternate` takes the experts in turn, each with its own steps in order; `weighted` draws them (by default every step
    as often); `high` and `low` keep to one. A held picture is at timestep 0 and so the low-noise expert's at every step.

    Raises InputError when an expert that is to be trained has no step.
    """

    def __init__(self, config: FinetuneConfig, experts: Sequence[ExpertName]) -> None:
        self._config = config
        self._of = {name: [i for i, expert in enumerate(experts) if expert == name] for name in ("high", "low")}
        self._all = list(range(len(experts)))
        needed = {"high": ("high",), "low": ("low",), "alternate": ("high", "low"), "weighted": ("high", "low")}
        for name in needed.get(config.experts, ()):
            if not self._of[name]:
                raise InputError(
                    f"with distill.steps {len(experts)} every step is the other expert's, and {name} would learn nothing; "
                    "use more steps, or train the other expert alone"
                )

    def at(self, step: int, micro: int, *, held: bool = True) -> SegmentTurn:
        """The turn of a micro-step. `held`: whether tracks may be held in it."""
        config = self._config
        turn = step * config.accumulate + micro
        generator = torch.Generator().manual_seed((config.seed * 1_000_003 + 7 * turn + 3) % 2**61)
        hold, which, drawn = torch.rand(3, generator=generator).tolist()
        expert = self._expert(turn, which)
        own = self._all if expert is None else self._of[expert]
        segment = own[turn // (2 if config.experts == "alternate" else 1) % len(own)]
        if config.experts == "weighted":
            segment = own[int(drawn * len(own))]
        if not held:
            return SegmentTurn(segment)
        if hold < config.objective.hold_video and expert != "high":
            return SegmentTurn(int(drawn * len(self._all)), "video")
        if hold >= 1 - config.objective.hold_audio:
            return SegmentTurn(segment, "audio")
        return SegmentTurn(segment)

    def middle_micro(self, step: int) -> int:
        """The micro-step of an update that learns the step nearest to the middle of all."""
        micros = range(self._config.accumulate)
        return min(micros, key=lambda micro: abs(self.at(step, micro, held=False).segment - (len(self._all) - 1) / 2))

    def _expert(self, turn: int, drawn: float) -> ExpertName | None:
        match self._config.experts:
            case "both-as-one":
                return None
            case "alternate":
                return "high" if turn % 2 == 0 else "low"
            case "weighted":
                share = self._config.high_share
                return "high" if drawn < (len(self._of["high"]) / len(self._all) if share is None else share) else "low"
            case "high":
                return "high"
            case "low":
                return "low"
