"""Runs what was requested: one clip, several seeds of it, a clip repeated, or a whole file of prompts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.batch import make_lines, plan_lines, read_lines
from phonofilm.generation.checkpoint import DEFAULT_MODEL, Checkpoint, open_checkpoint
from phonofilm.generation.inputs import read_inputs
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.placement.ranks import on_ranks, parallel_config, refuse_before_starting
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.provenance import Provenance
from phonofilm.generation.rehearsal import rehearse_output
from phonofilm.generation.repeating import provenance_of
from phonofilm.generation.report import Message, OnProgress, emit, silent
from phonofilm.generation.session import Session
from phonofilm.generation.writing import make_clips, with_kept_seed
from phonofilm.models.hub import is_on_this_machine, local_state
from phonofilm.models.known import KNOWN_MODELS
from phonofilm.parallel.parallel_session import ParallelSession
from phonofilm.units import format_size

OpenDisplay = Callable[[], AbstractContextManager[OnProgress]]
"""Opens what shows progress. Called in the process that speaks; with several devices it is pickled."""


@dataclass(frozen=True)
class RunOptions:
    """The options of a clip (or of every clip of `prompts`), and how to run it."""

    clip: ClipOptions
    hardware: HardwareOptions = field(default_factory=HardwareOptions)
    model: str | None = None
    like: Path | None = None
    prompts: Path | None = None
    overwrite: bool = False
    remove_video_dit: bool = False


def run(options: RunOptions, open_display: OpenDisplay) -> list[Path]:
    """Make the requested clips; returns the files written. Raises PhonofilmError when one could not be made."""
    config = parallel_config(options.hardware)
    if config is not None:
        if options.remove_video_dit:
            raise InputError("remove_video_dit is for one device; with several, shard_weights saves more")
        refuse_before_starting(config, options.hardware)
        return on_ranks(config, options.hardware.device, run_on_this_rank, options, open_display)
    return run_on_this_rank(None, options, open_display)


def run_on_this_rank(ranks: ParallelSession | None, options: RunOptions, open_display: OpenDisplay) -> list[Path]:
    """In this process: alone, or as one of the ranks that all do so."""
    display = open_display() if ranks is None or ranks.is_first else nullcontext(silent)
    with display as on_progress:
        provenance = None if options.like is None else provenance_of(options.like, options.clip)
        clip = options.clip if provenance is None else options.clip.over(provenance.options)
        if options.hardware.dtype is None and provenance is not None:
            options = replace(options, hardware=replace(options.hardware, dtype=provenance.dtype))
        if options.prompts is not None:
            return _batch(options, replace(clip, prompt=options.clip.prompt), provenance, on_progress, ranks)
        inputs = read_inputs(clip)
        outputs = choose_outputs_of(clip, options.overwrite)
        if options.remove_video_dit and len(outputs) > 1:
            raise InputError("remove_video_dit leaves nothing to begin a second clip with; ask for one clip")
        checkpoint = _checkpoint(options.model, provenance, on_progress)
        with Session(checkpoint, options.hardware, ranks=ranks) as session:
            plan = session.plan_inputs(inputs)
            if inputs.paths:
                rehearse_output(plan, outputs[0])
            session.resolve([plan], on_progress)
            if plan.parts and clip.seed is None:
                plan = with_kept_seed(plan, outputs, session)
            emit(on_progress, Message(session.line(plan, len(outputs))))
            return make_clips(session, plan, outputs, options.overwrite, on_progress, options.remove_video_dit)


def _batch(
    options: RunOptions,
    common: ClipOptions,
    provenance: Provenance | None,
    on_progress: OnProgress,
    ranks: ParallelSession | None,
) -> list[Path]:
    assert options.prompts is not None
    if common.prompt is not None:
        raise InputError("a prompt and prompts= were both given; give one")
    if common.contact_sheet is not None:
        raise InputError("with prompts=, ask for contact sheets line by line: contact_sheet in a JSONL file")
    if options.remove_video_dit:
        raise InputError("remove_video_dit leaves nothing to begin a second clip with; leave it out with prompts=")
    lines = read_lines(options.prompts, common)
    checkpoint = _checkpoint(options.model, provenance, on_progress)
    with Session(checkpoint, options.hardware, ranks=ranks) as session:
        planned = plan_lines(lines, session)
        session.resolve([one.plan for one in planned if one.plan is not None], on_progress)
        done = make_lines(planned, session, options.overwrite, on_progress)
    if done.failures:
        failures = "\n  ".join(done.failures)
        raise PhonofilmError(f"{len(done.failures)} of {len(lines)} lines failed; run it again to go on:\n  {failures}")
    return done.paths


def _checkpoint(model: str | None, provenance: Provenance | None, on_progress: OnProgress) -> Checkpoint:
    """The checkpoint that was named, else the clip's that is repeated (and it must be that very one), else the default."""
    if model is not None or provenance is None:
        name = model or DEFAULT_MODEL
        for known in KNOWN_MODELS:
            if (
                known.hub_id is not None
                and name in (known.name, known.hub_id)
                and local_state(name).state != "complete"
            ):
                size = format_size(known.nbytes)
                emit(on_progress, Message(f"{known.hub_id} is not on this machine yet: downloading {size}, once"))
        return open_checkpoint(name)
    if provenance.model.endswith("/") and not Path(provenance.model).is_dir():
        raise InputError(f"{provenance.clip} was made with the local checkpoint {provenance.model}; give it as model=")
    if not is_on_this_machine(provenance.model):
        raise InputError(
            f"{provenance.clip} was made with {provenance.model}, which is not on this machine, and a clip may not start a "
            f"download: name the model yourself with model={provenance.model}, or run phonofilm models download "
            f"{provenance.model}"
        )
    checkpoint = open_checkpoint(provenance.model)
    provenance.check_model(checkpoint.fingerprint)
    return checkpoint
