"""Files of a server's clips: what they are called, whether they can be written, and writing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.outputs import choose_outputs
from phonofilm.generation.prompt_file import Line, read_lines
from phonofilm.generation.written_files import WrittenFiles
from phonofilm.untrusted import shown

if TYPE_CHECKING:
    from phonofilm.serving.client import ServerClient


def check_output(output: Path, ids: Sequence[str], prompts: Path | None = None) -> None:
    """Raises InputError where the clips of these jobs, those of a file of prompts or not, can have no such name."""
    if prompts is not None:
        read_lines(prompts, ClipOptions(output=output))
    elif _is_file(output) and len(ids) > 1:
        raise InputError(f"{shown(output)} is one file, and there are {len(ids)} jobs; give a folder")


def check_targets(lines: Sequence[Line], output: Path, *, may_be_there: bool) -> None:
    """Raises InputError for a file that cannot be written, that two lines would write, or that is there: of another clip."""
    written = WrittenFiles()
    for line in lines:
        path = line.options.output if line.number else output if _is_file(output) else None
        for target in [] if path is None else _targets(path, line.options.num_clips or 1):
            if (other := written.claim(target, line.where)) is not None:
                raise InputError(
                    f"{line.where}: {shown(target)} is what {other} writes as well; give each its own name"
                )
            if target.exists() and not may_be_there:
                raise InputError(
                    f"{shown(target)} is there already; choose another name, or give the --idempotency-key it was made with"
                )


def fetch_clips(
    client: ServerClient, jobs: Sequence[Mapping[str, Any]], output: Path, prompts: Path | None = None
) -> Iterator[Path]:
    """Write the jobs' clips: those of one job to `output` if that is an mp4, else each into that folder, by its job's id.

    With `prompts`, the file that the jobs are of, they are called as `phonofilm generate --prompts` calls them. A file that is
    there and is not the same clip is not replaced. Raises InputError, for files that cannot be written once the others are.
    """
    lines = None if prompts is None else _matching_lines(prompts, output, jobs)
    alone = output if lines is None and len(jobs) == 1 and _is_file(output) else None
    faults: list[str] = []
    for number, job in enumerate(jobs):
        path = alone if lines is None else lines[number].options.output
        targets: list[Path] = []
        with _noting(faults):
            targets = _names_in(output, job) if path is None else _targets(path, job["num_outputs"])
        for index, target in enumerate(targets):
            with _noting(faults):
                yield client.fetch(job["id"], target, index)
    if faults:
        raise InputError("\n  ".join(faults))


def _matching_lines(prompts: Path, folder: Path, jobs: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The lines of a file of which these are the jobs, in the same order. Raises InputError when they are not."""
    lines = read_lines(prompts, ClipOptions(output=folder))
    if len(lines) != len(jobs):
        raise InputError(
            f"{shown(prompts)} has {len(lines)} prompts, and there are {len(jobs)} jobs; name those of the file"
        )
    for line, job in zip(lines, jobs, strict=True):
        if line.options.prompt is not None and line.options.prompt != job["prompt"]:
            raise InputError(f"{line.where} is not the prompt of {job['id']}; name the jobs in the order of the file")
    return lines


def _is_file(output: Path) -> bool:
    """Whether a single job's clip gets this name, and not one in this folder. Raises InputError for a file that is no mp4."""
    if output.is_dir() or not output.suffix:
        return False
    if output.suffix.lower() != ".mp4":
        raise InputError(
            f"output {shown(output.name)}: a server makes mp4; give a name that ends in .mp4, or a folder's, which has no "
            "suffix, or use phonofilm generate"
        )
    return True


@contextmanager
def _noting(faults: list[str]) -> Iterator[None]:
    """Note what cannot be written instead of raising it."""
    try:
        yield
    except InputError as error:
        faults.append(str(error))


def _names_in(folder: Path, job: Mapping[str, Any]) -> list[Path]:
    return [folder / f"{job['id']}{f'-{index}' if index else ''}.mp4" for index in range(job["num_outputs"])]


def _targets(path: Path, count: int) -> list[Path]:
    return [one.path for one in choose_outputs(path, "mp4", count, overwrite=True)]
