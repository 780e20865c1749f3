"""What the planner's process does: plan a clip on this machine without reading weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from phonofilm.errors import CheckpointError, InputError
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import open_store

if TYPE_CHECKING:
    from phonofilm.generation.clip_plan import ClipPlan
    from phonofilm.generation.session import Session

Basis = Literal["measured", "computed", "at_least"]


@dataclass(frozen=True)
class PlannedClip:
    """A clip's sizes. forwards: evaluations of the model in all; parts: its runs; work: as `work_of` counts it."""

    width: int
    height: int
    num_frames: int
    fps: float
    seconds: float
    steps: int
    forwards: int
    parts: int
    work: int


@dataclass(frozen=True)
class PlannedMemory:
    """What the clip takes and what there is, in bytes.

    peak_bytes: weights, latents and activations at their most, there where it is made; host_bytes: of the computer's own
    memory. text: how the weights wait, or why they do not fit.
    """

    weights_bytes: int
    peak_bytes: int
    host_bytes: int
    available_bytes: int
    where: Literal["host", "device"]
    text: str | None


@dataclass(frozen=True)
class PlanFound:
    """A plan in plain values. seconds: that a clip takes, and what that is based on."""

    line: str
    clip: PlannedClip
    memory: PlannedMemory
    seconds: float | None = None
    basis: Basis | None = None
    warnings: list[str] = field(default_factory=list)
    unknown_words: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)


def get_ready() -> None:
    """Import what planning needs, PyTorch above all, so that the first plan does not wait for it."""
    import_module("phonofilm.generation.session")


def plan_clip_here(
    settings: WorkerSettings, model: str, options: Mapping[str, Any], inputs: Mapping[str, str], loras: list[str] | None
) -> PlanFound | None:
    """The plan of a request whose files are stored under the names in `inputs`. Raises InputError for one that cannot be met.

    None for a model that is not on this machine: planning a clip must not begin a download of tens of gigabytes.
    """
    from phonofilm.models.hub import local_checkpoint
    from phonofilm.serving.security.clip_limits import check_files
    from phonofilm.serving.worker.inputs_of import options_with_files

    try:
        local_checkpoint(settings.models[model])
    except CheckpointError:
        return None
    session, store = _session(settings, model), open_store(settings.store)
    with ExitStack() as stack:
        files = {name: stack.enter_context(store.as_file(stored)) for name, stored in inputs.items()}
        check_files(files, settings.limits)
        plan = session.plan_options(options_with_files(options, files, loras, settings))
        return _found(session, settings.models[model], plan)


@lru_cache(maxsize=2)
def _opened(source: str, hardware: Any) -> Session:
    from phonofilm.generation.checkpoint import Checkpoint
    from phonofilm.generation.session import Session
    from phonofilm.models.hub import local_checkpoint
    from phonofilm.models.layout import read_layout

    return Session(Checkpoint(source, read_layout(local_checkpoint(source))), hardware)


def _session(settings: WorkerSettings, model: str) -> Session:
    return _opened(settings.models[model], settings.hardware)


def _found(session: Session, source: str, plan: ClipPlan) -> PlanFound:
    from phonofilm.generation.advice import unused_options
    from phonofilm.generation.clip_plan import work_of
    from phonofilm.generation.known_prompts import PROMPTS, SCENES, is_embedded, unfamiliar, unknown_words

    geometry = plan.sampling.task.geometry
    steps = len(plan.sampling.steps)
    clip = PlannedClip(
        width=geometry.width,
        height=geometry.height,
        num_frames=plan.frames_in_all,
        fps=float(geometry.frame_rate),
        seconds=float(plan.frames_in_all / geometry.frame_rate),
        steps=steps,
        forwards=sum(run.sampling.forwards for run in plan.runs),
        parts=len(plan.runs),
        work=work_of(plan),
    )
    warnings, words, suggestions = unused_options(plan, session.checkpoint.facts), list[str](), list[str]()
    if is_embedded(session.checkpoint.layout.folder) and all(use.own for use in plan.loras):
        vocabulary = session.checkpoint.tokenizer.get_vocab()
        inputs = plan.inputs
        pictures = [one for one in (inputs.image, inputs.last_image) if one is not None]
        if strange := unfamiliar([inputs.prompt], pictures, geometry, vocabulary):
            words, suggestions = unknown_words(inputs.prompt, vocabulary), list(PROMPTS)
            warnings.append(f"the embedded model knows four scenes: {SCENES}; {'; '.join(strange)}")
    seconds, basis = _expected(session, source, plan)
    memory = _memory(session, source, plan)
    return PlanFound(session.line(plan), clip, memory, seconds, basis, warnings, words, suggestions)


def _expected(session: Session, source: str, plan: ClipPlan) -> tuple[float | None, Basis | None]:
    """On a CPU from its speed, measured now; on a card the least that its peak allows."""
    from phonofilm.generation.expected_time import clip_seconds
    from phonofilm.generation.machine_fit import plan_or_none, this_machine

    if session.placement.device.type == "cpu":
        denoiser, rates = _speed(session)
        runs = [(run.sampling.task.geometry, run.sampling.forwards) for run in plan.runs]
        return sum(clip_seconds(denoiser, geometry, forwards, rates) for geometry, forwards in runs), "computed"
    budget = this_machine(None, None, None, 25e9).budget
    found = None if budget is None else plan_or_none(_needs(source, plan), budget)
    if found is None or found.seconds_per_step is None:
        return None, None
    return found.seconds_per_step * found.steps * len(plan.runs), "at_least"


@lru_cache(maxsize=2)
def _speed(session: Session) -> tuple[Any, Any]:
    """The model without its weights, and this CPU's rates at its widths: measured once, since people plan at every word."""
    from phonofilm.generation.expected_time import measure_rates
    from phonofilm.generation.placement.offload import empty_denoiser

    denoiser = empty_denoiser(session.checkpoint, None)
    return denoiser, measure_rates(denoiser)


def _needs(source: str, plan: ClipPlan) -> Any:
    from phonofilm.generation.machine_fit import needs_of

    geometry = plan.sampling.task.geometry
    seconds = float(geometry.num_frames / geometry.frame_rate)
    return needs_of(source, (geometry.height, geometry.width), seconds, len(plan.sampling.steps))


def _memory(session: Session, source: str, plan: ClipPlan) -> PlannedMemory:
    import psutil
    import torch

    from phonofilm.generation.machine_fit import peak_on_cpu, plan_or_none, plan_text, this_machine
    from phonofilm.generation.summary import memory_warning

    checkpoint, itemsize = session.checkpoint, session.placement.dtype.itemsize
    weights = checkpoint.weight_bytes(itemsize)
    budget = this_machine(None, None, None, 25e9).budget
    if session.placement.device.type == "cuda" and budget is not None:
        needs, there = _needs(source, plan), torch.cuda.mem_get_info()[0]
        found = plan_or_none(needs, budget)
        if found is None:
            return PlannedMemory(weights, weights, 0, there, "device", plan_text(needs, budget))
        return PlannedMemory(weights, found.device_bytes, found.host_bytes, there, "device", found.how)
    denoiser, _ = _speed(session)
    peak = max(peak_on_cpu(checkpoint, denoiser, run.sampling.task.geometry, itemsize) for run in plan.runs)
    there = psutil.virtual_memory().available
    return PlannedMemory(weights, peak, peak, there, "host", memory_warning(checkpoint, session.placement))


def check_planned(found: PlanFound) -> None:
    """Raises InputError for a plan that this machine cannot hold."""
    if found.memory.where == "device" and (found.memory.text or "").startswith("does not fit"):
        raise InputError(found.memory.text or "")
