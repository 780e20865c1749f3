"""Runs what was requested: one clip, several seeds of it, a clip repeated, or a whole file of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.batch import make_lines, plan_lines
from phonofilm.generation.checkpoint import DEFAULT_MODEL, Checkpoint, open_checkpoint
from phonofilm.generation.clip_writing import make_clips, with_kept_seed
from phonofilm.generation.first_frames import draw_first_frame, with_frame_of
from phonofilm.generation.inputs import read_inputs
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.placement.ranks import on_ranks, parallel_config, refuse_before_starting
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.prompt_file import Line, read_lines
from phonofilm.generation.provenance import Provenance, check_recorded_model
from phonofilm.generation.rehearsal import rehearse_output
from phonofilm.generation.repeating import provenance_of
from phonofilm.generation.report import Message, OnProgress, emit, silent
from phonofilm.generation.session import Session
from phonofilm.models.hub import is_on_this_machine, local_state
from phonofilm.models.known import KNOWN_MODELS
from phonofilm.parallel.parallel_session import ParallelSession
from phonofilm.parallel.rank import launcher_rank
from phonofilm.units import format_size
from phonofilm.writing.first_frame_options import FirstFrameOptions

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
    first_frames: FirstFrameOptions | None = None


def run(options: RunOptions, open_display: OpenDisplay) -> list[Path]:
    """Make the requested clips; returns the files written. Raises PhonofilmError when one could not be made."""
    config = parallel_config(options.hardware)
    if options.first_frames is not None:
        options = with_first_frames(options, options.first_frames, open_display)
    if config is not None:
        if options.remove_video_dit:
            raise InputError("remove_video_dit is for one device; with several, shard_weights saves more")
        refuse_before_starting(config, options.hardware)
        return on_ranks(config, options.hardware.device, run_on_this_rank, options, open_display)
    return run_on_this_rank(None, options, open_display)


def with_first_frames(options: RunOptions, drawing: FirstFrameOptions, open_display: OpenDisplay) -> RunOptions:
    """The options with the pictures drawn that they ask for. One process does this, before others are started."""
    if launcher_rank() is not None:
        raise InputError("a first frame is drawn by one process; draw it with phonofilm prompt, and give it as image=")
    with open_display() as on_progress:
        if options.prompts is not None:
            for line in _lines_of(options)[1]:
                draw_first_frame(drawing, line.options, options.overwrite, on_progress)
            return options
        _, clip, _ = _repeating(options)
        return replace(options, clip=draw_first_frame(drawing, clip, options.overwrite, on_progress))


def run_on_this_rank(ranks: ParallelSession | None, options: RunOptions, open_display: OpenDisplay) -> list[Path]:
    """In this process: alone, or as one of the ranks that all do so."""
    display = open_display() if ranks is None or ranks.is_first else nullcontext(silent)
    with display as on_progress:
        if options.prompts is not None:
            return _batch(read_batch(options, on_progress), on_progress, ranks)
        options, clip, provenance = (options, options.clip, None) if options.like is None else _repeating(options)
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


@dataclass(frozen=True)
class PromptBatch:
    """A file of prompts as it was read, with the options that hold for all of its lines, and the checkpoint."""

    options: RunOptions
    lines: list[Line]
    checkpoint: Checkpoint


def read_batch(options: RunOptions, on_progress: OnProgress) -> PromptBatch:
    """The lines of `options.prompts` and their checkpoint. Raises InputError for what cannot go with many clips."""
    options, lines, provenance = _lines_of(options)
    return PromptBatch(options, lines, _checkpoint(options.model, provenance, on_progress))


def _lines_of(options: RunOptions) -> tuple[RunOptions, list[Line], Provenance | None]:
    """The lines, each with the picture that is drawn for it, if that was asked for."""
    prompt = options.clip.prompt
    options, clip, provenance = _repeating(options)
    if prompt is not None:
        raise InputError("a prompt and prompts= were both given; give one")
    if clip.contact_sheet is not None:
        raise InputError("with prompts=, ask for contact sheets line by line: contact_sheet in a JSONL file")
    if options.remove_video_dit:
        raise InputError("remove_video_dit leaves nothing to begin a second clip with; leave it out with prompts=")
    assert options.prompts is not None
    lines = read_lines(options.prompts, replace(clip, prompt=None))
    if options.first_frames is not None:
        lines = [replace(line, options=with_frame_of(line.options)) for line in lines]
    return options, lines, provenance


def refuse_failures(failures: Sequence[str], count: int, what: str = "lines") -> None:
    """Raises PhonofilmError with all that went wrong, if anything did."""
    if failures:
        listed = "\n  ".join(failures)
        raise PhonofilmError(f"{len(failures)} of {count} {what} failed; run it again to go on:\n  {listed}")


def _repeating(options: RunOptions) -> tuple[RunOptions, ClipOptions, Provenance | None]:
    """The options with those of the clip that is repeated, if one is."""
    if options.like is None:
        return options, options.clip, None
    provenance = provenance_of(options.like, options.clip)
    if options.hardware.dtype is None:
        options = replace(options, hardware=replace(options.hardware, dtype=provenance.dtype))
    return options, options.clip.over(provenance.options), provenance


def _batch(batch: PromptBatch, on_progress: OnProgress, ranks: ParallelSession | None) -> list[Path]:
    with Session(batch.checkpoint, batch.options.hardware, ranks=ranks) as session:
        planned = plan_lines(batch.lines, session)
        session.resolve([one.plan for one in planned if one.plan is not None], on_progress)
        done = make_lines(planned, session, batch.options.overwrite, on_progress)
    refuse_failures(done.failures, len(batch.lines))
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
    check_recorded_model(provenance.model, provenance.clip)
    if provenance.model.endswith("/") and not Path(provenance.model).is_dir():
        raise InputError(f"{provenance.clip} was made with the local checkpoint {provenance.model}; give it as model=")
    if not is_on_this_machine(provenance.model):
        raise InputError(
            f"{provenance.clip} was made with {provenance.model}, which is not on this machine, and a clip may not start a "
            f"download: name the model yourself with model={provenance.model}, or run phonofilm models download "
            f"{provenance.model}"
        )
    checkpoint = open_checkpoint(provenance.model)
    provenance.check_model(checkpoint)
    return checkpoint
