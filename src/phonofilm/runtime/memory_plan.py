"""The memory planner: where the weights should wait, from sizes alone. Loads nothing, asks no device.

Bytes are exact for weights and counted for the forward. Assumptions: what a driver and the libraries take (RESERVE), and how
much more than it needs a forward occupies because of fragmentation (footprint.py).
Seconds are lower bounds: all FLOPs at the device's peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phonofilm.errors import InputError
from phonofilm.runtime.footprint import Footprint, reserved_for
from phonofilm.runtime.layer_streaming import spread
from phonofilm.runtime.ring import SLOTS
from phonofilm.runtime.schedule_sim import simulate
from phonofilm.runtime.staging import PIECES
from phonofilm.units import format_gigabytes

Offload = Literal["none", "model", "layer"]
PLANNED_OFFLOADS: tuple[Offload, ...] = ("none", "model", "layer")
RESERVE = 600_000_000


@dataclass(frozen=True)
class Budget:
    """What the machine has. Bytes of free device memory and of free host memory (None: as much as it takes).

    `flops`: the device's peak per second, None when unknown. `link`: bytes per second from host to device.
    """

    device: int
    host: int | None = None
    flops: float | None = None
    link: float = 25e9


@dataclass(frozen=True)
class ClipCost:
    """What one clip costs: video tokens of the clip, FLOPs of one evaluation of the model, evaluations per step, steps.

    `decoding`, `decoding_tiled`: bytes that the picture's decoder takes, whole and in tiles; 0 leaves it out of the plan.
    """

    video_tokens: int
    flops: int
    evaluations: int = 2
    steps: int = 50
    decoding: int = 0
    decoding_tiled: int = 0


@dataclass(frozen=True)
class StreamingOptions:
    """Settings of layer streaming. `resident`: layers that stay on the device; None is as many as fit.

    `on_disk`: the layers wait in files. `text_encoder_mapped`: the text encoder is a map of the checkpoint's files, which
    takes no memory that the system cannot take back; only then is it left out of what must fit beside layers on disk.
    """

    slots: int = SLOTS
    resident: int | None = None
    on_disk: bool = False
    text_encoder_mapped: bool = True


@dataclass(frozen=True)
class MemoryPlan:
    """Where weights wait, and what comes of it.

    `resident`: layers of each expert that stay on the device; with "layer" the others pass through `slots` slots, from
    files if `on_disk`. `tiled`: the picture is decoded in tiles, because the decoder would not fit otherwise.
    `keeps_text`: with "layer", the prompts' keys and values stay on the device, and the weights that make them are fetched for
    a clip's first step with each expert only. `seconds_per_step`: no step can be faster; None when the device's speed is unknown.
    """

    offload: Offload
    layers: int
    slots: int
    resident: int
    device_bytes: int
    host_bytes: int
    seconds_per_step: float | None
    steps: int
    on_disk: bool = False
    tiled: bool = False
    keeps_text: bool = False

    def line(self, budget: Budget) -> str:
        """The plan in one line."""
        time = (
            "seconds per step unknown (give the device's TFLOP/s)"
            if self.seconds_per_step is None
            else f"at least {self.seconds_per_step:.3g} s/step x {self.steps} (estimate: FLOPs at peak)"
        )
        return (
            f"{format_gigabytes(budget.device)} free: {self.how}, {time}, "
            f"peak {format_gigabytes(self.device_bytes)} device memory, {format_gigabytes(self.host_bytes)} host memory"
        )

    @property
    def how(self) -> str:
        """Where the weights wait, and whether decoding is in tiles."""
        return self._waiting + (", decoding in tiles (not bit-identical to decoding whole)" if self.tiled else "")

    @property
    def _waiting(self) -> str:
        match self.offload:
            case "none":
                return "everything stays on the device"
            case "model":
                return "components wait in host memory, one works at a time"
            case "layer":
                source = " from disk" if self.on_disk else ""
                streamed = f"streaming {self.layers - self.resident} layers{source} through {self.slots} slots"
                kept = f", {self.resident} resident" if self.resident else ""
                text = ", the prompts' keys and values kept" if self.keeps_text else ""
                return f"{streamed}{kept}{text}, the text encoder block by block"


def choose_offload(
    budget: Budget,
    model: Footprint,
    work: ClipCost,
    offload: Offload | None = None,
    streaming: StreamingOptions | None = None,
) -> MemoryPlan:
    """The first of none, model and layer that fits, or `offload` if it does.

    Raises InputError, saying what would fit, when nothing does.
    """
    allowed = PLANNED_OFFLOADS if offload is None else (offload,)
    plans = {kind: _plan(kind, budget, model, work, streaming or StreamingOptions()) for kind in PLANNED_OFFLOADS}
    fitting = [plan for plan in plans.values() if _fits(plan, budget)]
    for plan in fitting:
        if plan.offload in allowed:
            return plan
    needed = plans[allowed[-1]]
    host = (
        "as much host memory as it takes" if budget.host is None else f"{format_gigabytes(budget.host)} of host memory"
    )
    raise InputError(
        f"offload {needed.offload} needs {format_gigabytes(needed.device_bytes)} of device memory and "
        f"{format_gigabytes(needed.host_bytes)} of host memory for this clip; "
        f"there are {format_gigabytes(budget.device)} and {host}. {_what_would_fit(fitting, plans['layer'], budget, model, work)}"
    )


def _plan(
    offload: Offload, budget: Budget, model: Footprint, work: ClipCost, streaming: StreamingOptions
) -> MemoryPlan:
    if offload == "layer":
        return _layer(budget, model, work, streaming)
    layers, seconds = len(model.layers), _compute_seconds(budget, work)
    working = reserved_for(model.working(work.video_tokens, 1)) + RESERVE
    if offload == "none":
        staying, sampling, host = model.total + RESERVE, model.total + working, 0
    else:
        staying = model.decoders + RESERVE
        sampling, host = max(model.active + working, model.text_encoder + RESERVE), model.total
    device, tiled = _with_decoding(sampling, staying, budget, work)
    return MemoryPlan(offload, layers, 0, layers, device, host, seconds, work.steps, tiled=tiled)


def _layer(budget: Budget, model: Footprint, work: ClipCost, streaming: StreamingOptions) -> MemoryPlan:
    layers, slots = len(model.layers), streaming.slots
    working = reserved_for(model.working(work.video_tokens, work.evaluations))

    def device(kept: int, text: bool) -> tuple[int, bool]:
        staying = _least_streaming(model, slots) + _resident_bytes(model, kept)
        staying += work.evaluations * model.kept_text if text else 0
        return _with_decoding(staying + max(working, model.text_blocks.device), staying, budget, work)

    # What stays saves no time where copies hide; a tiled picture differs. So tiles only where nothing else fits.
    fewest_tiled = device(streaming.resident or 0, text=False)[1]

    def fits(kept: int, text: bool) -> bool:
        needed, tiled = device(kept, text)
        return needed <= budget.device and tiled == fewest_tiled

    # For its bytes a prompt's text saves more of the link than a layer that stays, so it comes first.
    text = fits(streaming.resident or 0, text=True)
    kept = streaming.resident
    if kept is None:
        kept = max((n for n in range(layers) if fits(n, text)), default=0)
    waiting = model.total - model.around - _resident_bytes(model, kept)
    if streaming.on_disk:
        waiting = PIECES * max(*model.own_layers, *model.shared_layers) + model.decoders
        waiting += 0 if streaming.text_encoder_mapped else model.text_encoder
    waiting += model.text_blocks.host
    needed, tiled = device(kept, text)
    seconds = _streamed_seconds(budget, model, work, kept, slots, text)
    return MemoryPlan(
        "layer", layers, slots, kept, needed, waiting, seconds, work.steps, streaming.on_disk, tiled, text
    )


def _with_decoding(sampling: int, staying: int, budget: Budget, work: ClipCost) -> tuple[int, bool]:
    """Peak bytes of sampling and of decoding beside what stays, and whether decoding is in tiles to fit."""
    whole = max(sampling, staying + reserved_for(work.decoding))
    if whole <= budget.device or not work.decoding_tiled:
        return whole, False
    in_tiles = max(sampling, staying + reserved_for(work.decoding_tiled))
    return (in_tiles, True) if in_tiles < whole else (whole, False)


def _least_streaming(model: Footprint, slots: int) -> int:
    return model.around + slots * max(model.layers) + RESERVE


def _resident_bytes(model: Footprint, count: int) -> int:
    return sum(model.resident(index) for index in spread(count, len(model.layers)))


def _compute_seconds(budget: Budget, work: ClipCost) -> float | None:
    return None if budget.flops is None else work.evaluations * work.flops / budget.flops


def _streamed_seconds(
    budget: Budget, model: Footprint, work: ClipCost, resident: int, slots: int, keeps_text: bool
) -> float | None:
    """A step in the long run, by the simulated ring: copies hide behind the computation as far as they can."""
    seconds = _compute_seconds(budget, work)
    if seconds is None:
        return None
    kept = spread(resident, len(model.layers))
    compute = [seconds / len(model.layers)] * len(model.layers)
    sizes = [whole - text if keeps_text else whole for whole, text in zip(model.layers, model.text_layers, strict=True)]
    copies = [None if index in kept else nbytes / budget.link for index, nbytes in enumerate(sizes)]
    return simulate(compute, copies, slots, forwards=3).makespan - simulate(compute, copies, slots, forwards=2).makespan


def _fits(plan: MemoryPlan, budget: Budget) -> bool:
    return plan.device_bytes <= budget.device and (budget.host is None or plan.host_bytes <= budget.host)


def _what_would_fit(
    fitting: list[MemoryPlan], streamed: MemoryPlan, budget: Budget, model: Footprint, work: ClipCost
) -> str:
    if fitting:
        return f"What fits: offload {' or '.join(plan.offload for plan in fitting)}"
    if budget.host is not None and streamed.host_bytes > budget.host:
        return f"What would fit: {format_gigabytes(streamed.host_bytes)} of free host memory, with offload layer" + (
            "" if streamed.on_disk else "; or offload_to_disk, with a folder on a fast disk"
        )
    room = budget.device - _least_streaming(model, streamed.slots) - _resident_bytes(model, streamed.resident)
    tokens = room // reserved_for(model.working(1, work.evaluations))
    if not 1 <= tokens < work.video_tokens:
        return f"What would fit: {format_gigabytes(streamed.device_bytes)} of free device memory, with offload layer"
    return (
        f"What would fit with offload layer: a clip of at most {tokens} video tokens (this one has {work.video_tokens}), "
        f"so fewer frames or a smaller size; or {format_gigabytes(streamed.device_bytes)} of free device memory"
    )
