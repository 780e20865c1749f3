"""The paired noise schedule: a timestep and a sigma for each modality at every step, and one Euler step between two.

No model and no device lives here; everything is small float32 tensors on the host. Sigma runs from 1 (noise) to 0 (data);
timestep = 1000 * sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError


@dataclass(frozen=True)
class TrackStep:
    """One modality's part of a step: its timestep, its sigma now and its sigma after the step."""

    timestep: float
    sigma: float
    sigma_next: float


@dataclass(frozen=True)
class Step:
    """One sampling step of both modalities; index counts from 0 of total."""

    index: int
    total: int
    video: TrackStep
    audio: TrackStep


class FlowMatchPairScheduler(SchedulerMixin, ConfigMixin):
    """The released scheduler. Constructor arguments are the keys of scheduler_config.json; it keeps no state of a run.

    `train_timesteps` and `train_sigmas` are its table of 1000 entries at the configured shift. Sigmas of a run are looked
    up there by the nearest timestep, as the original does, which snaps them when the step count does not divide 1000.
    """

    order = 1

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_inference_steps: int = 100,
        num_train_timesteps: int = 1000,
        shift: float = 3.0,
        sigma_max: float = 1.0,
        sigma_min: float = 0.003 / 1.002,
        inverse_timesteps: bool = False,
        extra_one_step: bool = False,
        reverse_sigmas: bool = False,
        exponential_shift: bool = False,
        exponential_shift_mu: float | None = None,
        shift_terminal: float | None = None,
    ) -> None:
        unsupported: dict[str, Any] = {
            "inverse_timesteps": inverse_timesteps,
            "reverse_sigmas": reverse_sigmas,
            "exponential_shift": exponential_shift,
            "shift_terminal": shift_terminal,
        }
        for name, value in unsupported.items():
            if value:
                raise CheckpointError(
                    f"scheduler config has {name}={value!r}, which no released checkpoint uses; expected none"
                )
        self.train_sigmas = self.sigmas(num_train_timesteps)
        self.train_timesteps = self.train_sigmas * num_train_timesteps

    def sigmas(self, steps: int, shift: float | None = None) -> Tensor:
        """Shifted sigmas of a run, unsnapped: float32 [steps], falling from sigma_max. `shift` defaults to the config's."""
        if steps < 1:
            raise InputError(f"num_inference_steps {steps} is not positive; use for example 50")
        shift = self.config["shift"] if shift is None else shift
        if shift <= 0:
            raise InputError(f"shift {shift} is not positive; use for example 5")
        last_kept = steps if self.config["extra_one_step"] else None
        points = steps + 1 if self.config["extra_one_step"] else steps
        base = torch.linspace(self.config["sigma_max"], self.config["sigma_min"], points)[:last_kept]
        return shift * base / (1 + (shift - 1) * base)

    def pairs(self, steps: int, video_shift: float | None = None, audio_shift: float | None = None) -> Tensor:
        """Timesteps of a run: float32 [steps, 2], video then audio, each with its own shift."""
        columns = [self.sigmas(steps, shift) for shift in (video_shift, audio_shift)]
        result: Tensor = torch.stack(columns, dim=1) * self.config["num_train_timesteps"]
        return result

    def sigma_of(self, timestep: float | Tensor) -> Tensor:
        """The sigma of the table's entry nearest to `timestep`: a float32 scalar."""
        return self.train_sigmas[(self.train_timesteps - float(timestep)).abs().argmin()]

    def steps(self, steps: int, video_shift: float | None = None, audio_shift: float | None = None) -> list[Step]:
        """The run's steps for both modalities; the last one goes to sigma 0."""
        columns = self.pairs(steps, video_shift, audio_shift).unbind(1)
        tracks = []
        for timesteps in columns:
            sigmas = [float(self.sigma_of(t)) for t in timesteps] + [0.0]
            tracks.append([TrackStep(float(t), sigmas[i], sigmas[i + 1]) for i, t in enumerate(timesteps)])
        return [Step(i, steps, video, audio) for i, (video, audio) in enumerate(zip(*tracks, strict=True))]

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: float | Tensor) -> Tensor:
        """(1 - sigma) * clean + sigma * noise at the sigma of `timestep`."""
        sigma = self.sigma_of(timestep).item()
        return (1 - sigma) * clean + sigma * noise


def euler_step(sample: Tensor, velocity: Tensor, track: TrackStep) -> Tensor:
    """sample + velocity * (sigma_next - sigma)."""
    return sample + velocity * (track.sigma_next - track.sigma)


def require_pair_scheduler(scheduler: object) -> None:
    """Raises InputError for any other scheduler."""
    if not isinstance(scheduler, FlowMatchPairScheduler):
        raise InputError(
            f"scheduler is a {type(scheduler).__name__}; MOVA needs its FlowMatchPairScheduler, whose steps have a timestep "
            'for each track. For another way to integrate, pass solver="unipc" to the call'
        )
