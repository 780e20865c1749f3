"""What the command was told, carried out: one clip, several seeds of it, a clip repeated, or a whole file of prompts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from phonofilm.cli.asked import Asked
from phonofilm.cli.attention import settle_attention
from phonofilm.cli.batch import make_all, plans_of, read_lines
from phonofilm.cli.checkpoint import Checkpoint, open_checkpoint
from phonofilm.cli.computing import check_computing
from phonofilm.cli.devices import Machine, choose_machine
from phonofilm.cli.latents import is_latents, read_latent_metadata
from phonofilm.cli.offloading import Limits, settle
from phonofilm.cli.plan import plan
from phonofilm.cli.prepare import prepare
from phonofilm.cli.progress import Report, size
from phonofilm.cli.record import Record, read_record
from phonofilm.cli.several import is_shared, on_ranks, report_of
from phonofilm.cli.studio import Studio
from phonofilm.cli.summary import memory_warning, plan_line
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.media import read_metadata
from phonofilm.models.hub import KNOWN_MODELS, local_state
from phonofilm.parallel.parallel_session import ParallelConfig, ParallelSession

DEFAULT_MODEL = "nano"


@dataclass(frozen=True)
class Order:
    """A command as it was typed: what is asked of the clip (or of every clip of `prompts`), and how to run it."""

    asked: Asked
    model: str | None = None
    device: str = "auto"
    dtype: str | None = None
    offload: str = "auto"
    attention: str | None = None
    like: Path | None = None
    prompts: Path | None = None
    overwrite: bool = False
    disk: Path | None = None
    limits: Limits = field(default_factory=Limits)
    remove_video_dit: bool = False
    several: ParallelConfig = field(default_factory=ParallelConfig)
    kernels: str = "auto"
    quantize: str | None = None
    compiles: bool = False


def carry_out(order: Order) -> list[Path]:
    """Make what was ordered; returns the files written. Raises PhonofilmError when something could not be made."""
    if is_shared(order.several):
        if order.remove_video_dit:
            raise InputError("--remove-video-dit is for one device; with several, --shard-weights saves more")
        return on_ranks(order.several, order.device, _carry_out, order)
    return _carry_out(None, order)


def _carry_out(team: ParallelSession | None, order: Order) -> list[Path]:
    """In this process: alone, or as one of the ranks that all do so."""
    if team is not None:
        order = replace(order, device=str(team.device), offload=team.offload(order.offload))
    with report_of(team) as report:
        record = None if order.like is None else _read_record(order.like, order.asked)
        asked = order.asked if record is None else order.asked.over(record.asked)
        dtype = order.dtype or (record.dtype if record is not None else "auto")
        if order.prompts is not None:
            return _batch(order, replace(asked, prompt=order.asked.prompt), record, dtype, report, team)
        prepared = prepare(asked, order.overwrite)
        if order.remove_video_dit and len(prepared.targets) > 1:
            raise InputError("--remove-video-dit leaves nothing to begin a second clip with; ask for one clip")
        machine = _machine(order, dtype)
        checkpoint = _checkpoint(order.model, record, report)
        planned = plan(prepared, checkpoint)
        machine = settle(machine, order.limits, checkpoint, [planned], report)
        machine = settle_attention(machine, checkpoint, [planned], report)
        check_computing(machine.computing, machine.offload, checkpoint)
        report.say(plan_line(planned, checkpoint, machine))
        _warn(checkpoint, machine, report)
        return Studio(checkpoint, machine, report, order.remove_video_dit, team).make(planned, order.overwrite)


def _batch(
    order: Order, common: Asked, record: Record | None, dtype: str, report: Report, team: ParallelSession | None
) -> list[Path]:
    assert order.prompts is not None
    if common.prompt is not None:
        raise InputError("a prompt and --prompts were both given; give one")
    if common.contact_sheet is not None:
        raise InputError("with --prompts, ask for contact sheets line by line: contact_sheet in a JSONL file")
    if order.remove_video_dit:
        raise InputError("--remove-video-dit leaves nothing to begin a second clip with; leave it out with --prompts")
    lines = read_lines(order.prompts, common)
    machine = _machine(order, dtype)
    checkpoint = _checkpoint(order.model, record, report)
    plans = plans_of(lines, checkpoint)
    machine = settle(machine, order.limits, checkpoint, plans, report)
    machine = settle_attention(machine, checkpoint, plans, report)
    check_computing(machine.computing, machine.offload, checkpoint)
    _warn(checkpoint, machine, report)
    done = make_all(lines, Studio(checkpoint, machine, report, team=team), order.overwrite)
    if done.failures:
        told = "\n  ".join(done.failures)
        raise PhonofilmError(f"{len(done.failures)} of {len(lines)} lines failed; run it again to go on:\n  {told}")
    return done.paths


def _machine(order: Order, dtype: str) -> Machine:
    for option, given in (("--quantize", order.quantize is not None), ("--compile", order.compiles)):
        if given and order.several.shard_weights:
            raise InputError(f"{option} and --shard-weights do not work together; leave one out")
    return choose_machine(
        order.device,
        dtype,
        order.offload,
        order.attention,
        order.disk,
        kernels=order.kernels,
        quantize=order.quantize,
        compiles=order.compiles,
    )


def _read_record(clip: Path, again: Asked) -> Record:
    metadata = read_latent_metadata(clip) if is_latents(clip) else read_metadata(clip)
    return read_record(metadata, clip, again)


def _checkpoint(model: str | None, record: Record | None, report: Report) -> Checkpoint:
    """The checkpoint that was named, else the clip's that is repeated (and it must be that very one), else the default."""
    if model is not None or record is None:
        name = model or DEFAULT_MODEL
        _announce_download(name, report)
        return open_checkpoint(name)
    if record.model.endswith("/") and not Path(record.model).is_dir():
        raise InputError(f"{record.clip} was made with the local checkpoint {record.model}; give it with --model")
    _announce_download(record.model, report)
    checkpoint = open_checkpoint(record.model)
    record.check_model(checkpoint.fingerprint)
    return checkpoint


def _announce_download(name: str, report: Report) -> None:
    for known in KNOWN_MODELS:
        if known.hub_id is not None and name in (known.name, known.hub_id) and local_state(name).state != "complete":
            report.say(f"{known.hub_id} is not on this machine yet: downloading {size(known.nbytes)}, once")


def _warn(checkpoint: Checkpoint, machine: Machine, report: Report) -> None:
    warning = memory_warning(checkpoint, machine)
    if warning is not None:
        report.say(f"warning: {warning}")
    if machine.by_component and not machine.offloads:
        report.say(
            f"offload {machine.offload}: the weights are in host memory already, nothing needs to wait elsewhere"
        )
