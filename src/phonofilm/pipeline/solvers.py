"""Solvers of the flow's equation dx/dσ = v, one per track, each on that track's own sigmas. They know no model.

All of them ask for one velocity a step; beyond Euler's they remember earlier ones, and start anew where the velocity
jumps. A step of no length (a track held whole, two sigmas snapped to one) moves nothing and is not remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from phonofilm.pipeline.sampling_limits import check_solver
from phonofilm.pipeline.schedule import Step, TrackStep, euler_step
from phonofilm.pipeline.types import Latents

DEFAULT_SOLVER = "euler"


class TrackSolver(Protocol):
    """One track from step to step."""

    def advance(self, sample: Tensor, velocity: Tensor, track: TrackStep) -> Tensor:
        """The latents at `track.sigma_next`, given those at `track.sigma` and their velocity, all of one shape, float32."""

    def restart(self) -> None:
        """Forget the steps so far: what follows is no continuation of them."""


class Euler:
    """First order: the velocity stands still over the step."""

    def advance(self, sample: Tensor, velocity: Tensor, track: TrackStep) -> Tensor:
        return euler_step(sample, velocity, track)

    def restart(self) -> None:
        pass


class AdamsBashforth:
    """Second order: the velocity goes on changing as it did over the last step. Steps may have any lengths."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, float] | None = None  # velocity, and the length of its step

    def advance(self, sample: Tensor, velocity: Tensor, track: TrackStep) -> Tensor:
        length = track.sigma_next - track.sigma
        if length == 0:
            return sample
        slope = velocity
        if self._last is not None:
            earlier, its_length = self._last
            slope = velocity + (velocity - earlier) * (length / (2 * its_length))
        self._last = velocity, length
        return sample + slope * length

    def restart(self) -> None:
        self._last = None


@dataclass(frozen=True)
class _Seen:
    """The data x - σv predicted at one σ."""

    data: Tensor
    sigma: float

    @property
    def log_snr(self) -> float:
        """ln((1-σ)/σ), the solvers' clock; infinite at both ends."""
        return math.inf if self.sigma <= 0 else -math.inf if self.sigma >= 1 else math.log(1 / self.sigma - 1)


class DataMultistep:
    """Second order in the predicted data x - σv, over log-SNR: DPM-Solver++(2M) (Lu et al. 2022) for the flow.

    `corrects` makes it UniPC of order 2 (Zhao et al. 2023, B₂): the step that led here is mended with the velocity found
    here, at no further evaluation. The mend is added to the latents as they are now, so what was put back or changed
    between the steps stays. Where log-SNR is infinite, at σ 1 and 0, the data stands still.
    """

    def __init__(self, corrects: bool) -> None:
        self._corrects = corrects
        self._history: list[_Seen] = []
        self._predicted: Tensor | None = None  # the mean data that the last step assumed

    def advance(self, sample: Tensor, velocity: Tensor, track: TrackStep) -> Tensor:
        if track.sigma_next == track.sigma:
            return sample
        now = _Seen(sample - velocity * track.sigma, track.sigma)
        if self._corrects and self._predicted is not None:
            mended = _corrected(self._history, now) - self._predicted
            sample = sample + mended * (1 - now.sigma / self._history[-1].sigma)
        self._history = [*self._history[-1:], now]
        self._predicted = _extrapolated(self._history, _Seen(now.data, track.sigma_next).log_snr)
        kept = track.sigma_next / track.sigma
        return sample * kept + self._predicted * (1 - kept)

    def restart(self) -> None:
        self._history, self._predicted = [], None


def _extrapolated(history: list[_Seen], target: float) -> Tensor:
    """The mean data on the way to log-SNR `target`: the last prediction and half a step's change more."""
    now = history[-1]
    if len(history) < 2 or math.isinf(target) or math.isinf(history[0].log_snr):
        return now.data
    half = (target - now.log_snr) / (now.log_snr - history[0].log_snr) / 2
    return now.data + (now.data - history[0].data) * half


def _corrected(history: list[_Seen], now: _Seen) -> Tensor:
    """The mean data on the way from the last step to `now`: a parabola through three predictions (a line through two)."""
    last = history[-1]
    length = now.log_snr - last.log_snr
    # Integrals of s and s² (s from 0 to 1 over the step) under the exponential weight; 1 and 1 for an infinite step.
    first = 1.0 if math.isinf(length) else 1 / -math.expm1(-length) - 1 / length
    second = 1.0 if math.isinf(length) else 1 / -math.expm1(-length) - 2 * first / length
    if len(history) < 2 or math.isinf(history[0].log_snr):
        return last.data + (now.data - last.data) * first
    before = (history[0].log_snr - last.log_snr) / length
    curve = (first - second) / (before * (1 - before))
    return last.data + (history[0].data - last.data) * curve + (now.data - last.data) * (first - curve * before)


SOLVERS: dict[str, Callable[[], TrackSolver]] = {
    "euler": Euler,
    "ab2": AdamsBashforth,
    "dpmpp_2m": lambda: DataMultistep(corrects=False),
    "unipc": lambda: DataMultistep(corrects=True),
}


class PairSolver:
    """Both tracks' solvers of one kind. Raises InputError for an unknown name."""

    def __init__(self, name: str = DEFAULT_SOLVER) -> None:
        check_solver(name)
        self._video, self._audio = SOLVERS[name](), SOLVERS[name]()

    def advance(self, latents: Latents, velocity: Latents, step: Step) -> Latents:
        """The latents after `step`."""
        return Latents(
            self._video.advance(latents.video, velocity.video, step.video),
            self._audio.advance(latents.audio, velocity.audio, step.audio),
        )

    def restart(self) -> None:
        self._video.restart()
        self._audio.restart()
