"""Many clips of one file: skipping what is there already, going on when a clip fails. Reading it: prompt_file.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.clip_maker import ClipMaker
from phonofilm.generation.clip_plan import ClipPlan, without_media
from phonofilm.generation.clip_writing import make_clips, with_kept_seed
from phonofilm.generation.finished import finished_metadata
from phonofilm.generation.outputs import Output
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.prompt_file import Line
from phonofilm.generation.provenance import clip_metadata
from phonofilm.generation.rehearsal import rehearse_output
from phonofilm.generation.report import Cancelled, Message, OnProgress, emit
from phonofilm.generation.written_files import WrittenFiles
from phonofilm.parallel.rank import RankError
from phonofilm.untrusted import shown

# What a finished clip's account may differ in and still be the clip that was requested.
NOT_COMPARED = ("seed", "phonofilm", "offload", "device", "forwards", "steps_skipped")


@dataclass(frozen=True)
class PlannedLine:
    """A line with its plan less pictures and tracks, a hundred of which do not fit in memory; or why it has none."""

    line: Line
    plan: ClipPlan | None
    fault: PhonofilmError | None = None


@dataclass(frozen=True)
class BatchResult:
    """Files that were written, and a sentence for each line that failed."""

    paths: list[Path]
    failures: list[str]


def plan_lines(lines: Sequence[Line], maker: ClipMaker) -> list[PlannedLine]:
    """Every line checked: its files are read and what will be written is rehearsed. Loads no weights."""
    planned: list[PlannedLine] = []
    written = WrittenFiles()
    for line in lines:
        try:
            outputs = choose_outputs_of(line.options, overwrite=True)
            plan = maker.plan_options(line.options)
            _claim(outputs, line, written)
            rehearse_output(plan, outputs[0])
            planned.append(PlannedLine(line, without_media(plan)))
        except PhonofilmError as error:
            planned.append(PlannedLine(line, None, error))
    return planned


def make_lines(
    planned: Sequence[PlannedLine], maker: ClipMaker, overwrite: bool, on_progress: OnProgress
) -> BatchResult:
    """Make the clips that are not there yet; a line that is wrong does not keep the others from being made."""
    paths: list[Path] = []
    failures: list[str] = []
    waiting: list[Line] = []

    def failed(line: Line, error: PhonofilmError) -> None:
        failures.append(f"{line.where}: {error}")
        emit(on_progress, Message(f"error: {failures[-1]}"))

    for one in planned:
        try:
            if one.fault is not None:
                raise one.fault
            assert one.plan is not None
            outputs = choose_outputs_of(one.line.options, overwrite=True)
            if is_done(one.plan, outputs, one.line, maker):
                emit(on_progress, Message(f"{one.line.where}: {outputs[0].path} is there already"))
                continue
            choose_outputs_of(one.line.options, overwrite)
        except PhonofilmError as error:
            failed(one.line, error)
        else:
            waiting.append(one.line)
    for position, line in enumerate(waiting, start=1):
        try:
            plan, outputs = maker.plan_options(line.options), choose_outputs_of(line.options, overwrite)
            if plan.parts and line.options.seed is None:
                plan = with_kept_seed(plan, outputs, maker)
            about = f"clip {position} of {len(waiting)}, {line.where}: {maker.line(plan, len(outputs))}"
            emit(on_progress, Message(about))
            written = make_clips(maker, plan, outputs, overwrite, on_progress)
            emit(on_progress, Message(f"wrote {', '.join(map(str, written))}"))
            paths += written
        except (RankError, Cancelled):
            raise  # the other ranks are in the middle of this clip and cannot skip to the next
        except PhonofilmError as error:
            failed(line, error)
    return BatchResult(paths, failures)


def _claim(outputs: Sequence[Output], line: Line, written: WrittenFiles) -> None:
    """Note the files that a line will write. Raises InputError when an earlier line writes one of them, or around or in it."""
    for output in outputs:
        for file in (output.path, output.contact_sheet):
            if file is not None and (other := written.claim(file, line.where)) is not None:
                raise InputError(
                    f"{shown(file)} is what {other} writes as well, or one lies in the other; give each its own name"
                )


def is_done(plan: ClipPlan, outputs: Sequence[Output], line: Line, maker: ClipMaker) -> bool:
    """Whether every clip of a plan is there, whole, and made with these options. A seed matters only where it was given."""
    wanted = _comparable(clip_metadata(plan, maker.checkpoint, maker.placement))
    for index, output in enumerate(outputs):
        found = finished_metadata(output, plan.frames_in_all)
        if found is None or _comparable(found) != wanted:
            return False
        if line.options.seed is not None and found.get("seed") != plan.seed + index:
            return False
    return True


def _comparable(account: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in account.items() if key not in NOT_COMPARED}
