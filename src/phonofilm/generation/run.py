"""Runs what was requested: one clip, several seeds of it, a clip repeated, or a whole file of prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.batch import make_lines, plans_of, read_lines
from phonofilm.generation.checkpoint import Checkpoint, open_checkpoint
from phonofilm.generation.clip_plan import plan
from phonofilm.generation.inputs import read_inputs
from phonofilm.generation.latent_files import is_latents, read_latent_metadata
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.attention import resolve_attention
from phonofilm.generation.placement.computing import check_computing
from phonofilm.generation.placement.devices import Placement, choose_placement
from phonofilm.generation.placement.offload import MemoryLimits, resolve_placement
from phonofilm.generation.placement.ranks import is_shared, on_ranks
from phonofilm.generation.provenance import Provenance, read_provenance
from phonofilm.generation.rehearsal import rehearse_output
from phonofilm.generation.report import Report, SilentReport
from phonofilm.generation.session import Session
from phonofilm.generation.summary import memory_warning, plan_line
from phonofilm.media import read_metadata
from phonofilm.models.hub import is_on_this_machine, local_state
from phonofilm.models.known import KNOWN_MODELS
from phonofilm.parallel.parallel_session import ParallelConfig, ParallelSession
from phonofilm.units import format_size

DEFAULT_MODEL = "nano"


@dataclass(frozen=True)
class RunOptions:
    """The options of a clip (or of every clip of `prompts`), and how to run it."""

    clip: ClipOptions
    model: str | None = None
    device: str = "auto"
    dtype: str | None = None
    offload: str = "auto"
    attention: str | None = None
    like: Path | None = None
    prompts: Path | None = None
    overwrite: bool = False
    disk: Path | None = None
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    remove_video_dit: bool = False
    several: ParallelConfig = field(default_factory=ParallelConfig)
    kernels: str = "auto"
    quantize: str | None = None
    compiles: bool = False


def run(options: RunOptions, open_report: Callable[[], Report]) -> list[Path]:
    """Make the requested clips; returns the files written. Raises PhonofilmError when one could not be made.

    `open_report` makes the report of the process that speaks; with several devices it is pickled.
    """
    if is_shared(options.several):
        if options.remove_video_dit:
            raise InputError("--remove-video-dit is for one device; with several, --shard-weights saves more")
        return on_ranks(options.several, options.device, run_on_this_rank, options, open_report)
    return run_on_this_rank(None, options, open_report)


def run_on_this_rank(
    team: ParallelSession | None, options: RunOptions, open_report: Callable[[], Report]
) -> list[Path]:
    """In this process: alone, or as one of the ranks that all do so."""
    if team is not None:
        options = replace(options, device=str(team.device), offload=team.offload(options.offload))
    with open_report() if team is None or team.is_first else SilentReport() as report:
        provenance = None if options.like is None else _provenance_of(options.like, options.clip)
        clip = options.clip if provenance is None else options.clip.over(provenance.options)
        dtype = options.dtype or (provenance.dtype if provenance is not None else "auto")
        if options.prompts is not None:
            return _batch(options, replace(clip, prompt=options.clip.prompt), provenance, dtype, report, team)
        inputs = read_inputs(clip, options.overwrite)
        if options.remove_video_dit and len(inputs.outputs) > 1:
            raise InputError("--remove-video-dit leaves nothing to begin a second clip with; ask for one clip")
        placement = _placement(options, dtype)
        checkpoint = _checkpoint(options.model, provenance, report)
        planned = plan(inputs, checkpoint)
        placement = resolve_placement(placement, options.limits, checkpoint, [planned], report)
        placement = resolve_attention(placement, checkpoint, [planned], report)
        check_computing(placement.computing, placement.offload, checkpoint)
        rehearse_output(planned)
        report.say(plan_line(planned, checkpoint, placement))
        _warn(checkpoint, placement, report)
        return Session(checkpoint, placement, report, options.remove_video_dit, team).make(planned, options.overwrite)


def _batch(
    options: RunOptions,
    common: ClipOptions,
    provenance: Provenance | None,
    dtype: str,
    report: Report,
    team: ParallelSession | None,
) -> list[Path]:
    assert options.prompts is not None
    if common.prompt is not None:
        raise InputError("a prompt and --prompts were both given; give one")
    if common.contact_sheet is not None:
        raise InputError("with --prompts, ask for contact sheets line by line: contact_sheet in a JSONL file")
    if options.remove_video_dit:
        raise InputError("--remove-video-dit leaves nothing to begin a second clip with; leave it out with --prompts")
    lines = read_lines(options.prompts, common)
    placement = _placement(options, dtype)
    checkpoint = _checkpoint(options.model, provenance, report)
    plans = plans_of(lines, checkpoint)
    placement = resolve_placement(placement, options.limits, checkpoint, plans, report)
    placement = resolve_attention(placement, checkpoint, plans, report)
    check_computing(placement.computing, placement.offload, checkpoint)
    _warn(checkpoint, placement, report)
    done = make_lines(lines, Session(checkpoint, placement, report, team=team), options.overwrite)
    if done.failures:
        failures = "\n  ".join(done.failures)
        raise PhonofilmError(f"{len(done.failures)} of {len(lines)} lines failed; run it again to go on:\n  {failures}")
    return done.paths


def _placement(options: RunOptions, dtype: str) -> Placement:
    for option, given in (("--quantize", options.quantize is not None), ("--compile", options.compiles)):
        if given and options.several.shard_weights:
            raise InputError(f"{option} and --shard-weights do not work together; leave one out")
    return choose_placement(
        options.device,
        dtype,
        options.offload,
        options.attention,
        options.disk,
        kernels=options.kernels,
        quantize=options.quantize,
        compiles=options.compiles,
    )


def _provenance_of(clip: Path, again: ClipOptions) -> Provenance:
    metadata = read_latent_metadata(clip) if is_latents(clip) else read_metadata(clip)
    return read_provenance(metadata, clip, again)


def _checkpoint(model: str | None, provenance: Provenance | None, report: Report) -> Checkpoint:
    """The checkpoint that was named, else the clip's that is repeated (and it must be that very one), else the default."""
    if model is not None or provenance is None:
        name = model or DEFAULT_MODEL
        _announce_download(name, report)
        return open_checkpoint(name)
    if provenance.model.endswith("/") and not Path(provenance.model).is_dir():
        raise InputError(
            f"{provenance.clip} was made with the local checkpoint {provenance.model}; give it with --model"
        )
    if not is_on_this_machine(provenance.model):
        raise InputError(
            f"{provenance.clip} was made with {provenance.model}, which is not on this machine, and a clip may not start a "
            f"download: name the model yourself with --model {provenance.model}, or run phonofilm models download "
            f"{provenance.model}"
        )
    checkpoint = open_checkpoint(provenance.model)
    provenance.check_model(checkpoint.fingerprint)
    return checkpoint


def _announce_download(name: str, report: Report) -> None:
    for known in KNOWN_MODELS:
        if known.hub_id is not None and name in (known.name, known.hub_id) and local_state(name).state != "complete":
            report.say(f"{known.hub_id} is not on this machine yet: downloading {format_size(known.nbytes)}, once")


def _warn(checkpoint: Checkpoint, placement: Placement, report: Report) -> None:
    warning = memory_warning(checkpoint, placement)
    if warning is not None:
        report.say(f"warning: {warning}")
    if placement.by_component and not placement.offloads:
        report.say(
            f"offload {placement.offload}: the weights are in host memory already, nothing needs to wait elsewhere"
        )
