"""The memory planner: where the weights should wait, from sizes alone. Loads nothing, asks no device.

Bytes are exact for weights and counted for the forward; what a driver and the libraries take is RESERVE, an assumption.
Seconds are lower bounds: all FLOPs at the device's peak. Decoding the latents is not planned for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from phonofilm.errors import InputError
from phonofilm.runtime.clock import simulate
from phonofilm.runtime.footprint import Footprint
from phonofilm.runtime.streaming import spread

Offload = Literal["none", "model", "layer"]
OFFLOADS: tuple[Offload, ...] = ("none", "model", "layer")
RESERVE = 600_000_000
SLOTS = 2


@dataclass(frozen=True)
class Budget:
    """What there is. Bytes of free device memory and of free host memory (None: as much as it takes).

    `flops`: the device's peak per second, None when unknown. `link`: bytes per second from host to device.
    """

    device: int
    host: int | None = None
    flops: float | None = None
    link: float = 25e9


@dataclass(frozen=True)
class Work:
    """What is asked: video tokens of the clip, FLOPs of one evaluation of the model, evaluations per step, steps."""

    video_tokens: int
    flops: int
    evaluations: int = 2
    steps: int = 50


@dataclass(frozen=True)
class Plan:
    """Where weights wait, and what comes of it.

    `resident`: layers of each expert that stay on the device; with "layer" the others pass through `slots` slots.
    `seconds_per_step`: no step can be faster; None when the device's speed is unknown.
    """

    offload: Offload
    layers: int
    slots: int
    resident: int
    device_bytes: int
    host_bytes: int
    seconds_per_step: float | None
    steps: int

    def line(self, budget: Budget) -> str:
        """The plan in one line."""
        time = (
            "seconds per step unknown (give the device's TFLOP/s)"
            if self.seconds_per_step is None
            else f"at least {self.seconds_per_step:.3g} s/step x {self.steps} (estimate: FLOPs at peak)"
        )
        return (
            f"{_gb(budget.device)} free: {self.how}, {time}, peak {_gb(self.device_bytes)} device memory, "
            f"{_gb(self.host_bytes)} host memory"
        )

    @property
    def how(self) -> str:
        match self.offload:
            case "none":
                return "everything stays on the device"
            case "model":
                return "components wait in host memory, one works at a time"
            case "layer":
                streamed = f"streaming {self.layers - self.resident} layers through {self.slots} slots"
                kept = f", {self.resident} resident" if self.resident else ""
                return f"{streamed}{kept}, text encoder on the host"


def choose(budget: Budget, model: Footprint, work: Work, offload: Offload | None = None) -> Plan:
    """The first of none, model and layer that fits, or `offload` if it does.

    Raises InputError, saying what would fit, when nothing does.
    """
    asked = OFFLOADS if offload is None else (offload,)
    fitting = [plan for kind in OFFLOADS if _fits(plan := PLANNERS[kind](budget, model, work), budget)]
    for plan in fitting:
        if plan.offload in asked:
            return plan
    needed = PLANNERS[asked[-1]](budget, model, work)
    host = "as much host memory as it takes" if budget.host is None else f"{_gb(budget.host)} of host memory"
    raise InputError(
        f"offload {needed.offload} needs {_gb(needed.device_bytes)} of device memory and {_gb(needed.host_bytes)} of host "
        f"memory for this clip; there are {_gb(budget.device)} and {host}. {_what_would_fit(fitting, budget, model, work)}"
    )


def _none(budget: Budget, model: Footprint, work: Work) -> Plan:
    device = model.total + model.working(work.video_tokens, 1) + RESERVE
    return Plan("none", len(model.layers), 0, len(model.layers), device, 0, _compute_seconds(budget, work), work.steps)


def _model(budget: Budget, model: Footprint, work: Work) -> Plan:
    sampling = model.active + model.working(work.video_tokens, 1)
    device = max(sampling, model.text_encoder, model.decoders) + RESERVE
    seconds = _compute_seconds(budget, work)
    return Plan("model", len(model.layers), 0, len(model.layers), device, model.total, seconds, work.steps)


def _layer(budget: Budget, model: Footprint, work: Work) -> Plan:
    least = _least_streaming(model) + model.working(work.video_tokens, work.evaluations)
    layers = len(model.layers)
    kept = max(
        (count for count in range(layers) if least + _resident_bytes(model, count) <= budget.device),
        default=0,
    )
    resident = _resident_bytes(model, kept)
    return Plan(
        "layer",
        layers,
        SLOTS,
        kept,
        least + resident,
        model.total - model.around - resident,
        _streamed_seconds(budget, model, work, kept),
        work.steps,
    )


PLANNERS: dict[Offload, Callable[[Budget, Footprint, Work], Plan]] = {"none": _none, "model": _model, "layer": _layer}


def _least_streaming(model: Footprint) -> int:
    return model.around + SLOTS * max(model.layers) + RESERVE


def _resident_bytes(model: Footprint, count: int) -> int:
    return sum(model.resident(index) for index in spread(count, len(model.layers)))


def _compute_seconds(budget: Budget, work: Work) -> float | None:
    return None if budget.flops is None else work.evaluations * work.flops / budget.flops


def _streamed_seconds(budget: Budget, model: Footprint, work: Work, resident: int) -> float | None:
    """A step in the long run, by the simulated ring: copies hide behind the computation as far as they can."""
    seconds = _compute_seconds(budget, work)
    if seconds is None:
        return None
    kept = spread(resident, len(model.layers))
    compute = [seconds / len(model.layers)] * len(model.layers)
    copies = [None if index in kept else nbytes / budget.link for index, nbytes in enumerate(model.layers)]
    return simulate(compute, copies, SLOTS, forwards=3).makespan - simulate(compute, copies, SLOTS, forwards=2).makespan


def _fits(plan: Plan, budget: Budget) -> bool:
    return plan.device_bytes <= budget.device and (budget.host is None or plan.host_bytes <= budget.host)


def _what_would_fit(fitting: list[Plan], budget: Budget, model: Footprint, work: Work) -> str:
    if fitting:
        return f"What fits: offload {' or '.join(plan.offload for plan in fitting)}"
    streamed = _layer(budget, model, work)
    if budget.host is not None and streamed.host_bytes > budget.host:
        return f"What would fit: {_gb(streamed.host_bytes)} of free host memory, with offload layer"
    room = budget.device - _least_streaming(model)
    tokens = room // model.working(1, work.evaluations)
    if tokens < 1:
        return f"What would fit: {_gb(streamed.device_bytes)} of free device memory, with offload layer"
    return (
        f"What would fit with offload layer: a clip of at most {tokens} video tokens (this one has {work.video_tokens}), "
        f"so fewer frames or a smaller size; or {_gb(streamed.device_bytes)} of free device memory"
    )


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.3g} GB"
