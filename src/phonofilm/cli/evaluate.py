"""`phonofilm evaluate`: score clips, say what can be scored here, compare two reports. Only glue; docs/evaluation.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli.run_by_default import RunByDefault

if TYPE_CHECKING:
    from phonofilm.evaluation.metric import Setup
    from phonofilm.evaluation.result import Evaluated

app = typer.Typer(cls=RunByDefault, no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Score clips. `phonofilm evaluate CLIPS -o REPORT` is `phonofilm evaluate run CLIPS -o REPORT`."""


@app.command()
def run(
    clips: Annotated[list[Path] | None, typer.Argument(help="Clip files, and folders to search.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the report; the same folder goes on where it stopped."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSON of the clips' prompts, in Verse-Bench's form.")] = None,
    suite: Annotated[str, typer.Option(help="verse-bench, sync, speech, audio or all.")] = "all",
    metrics: Annotated[str | None, typer.Option(help="Names of metrics, with commas; instead of a suite.")] = None,
    profile: Annotated[str, typer.Option(help="compat scores as the published code, fixed rightly.")] = "compat",
    weights: Annotated[
        Path | None, typer.Option(help="Folder of published weights.  [default: $PHONOFILM_EVALUATION_WEIGHTS]")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where networks and --generate run: auto, cpu, cuda, cuda:N, mps.")
    ] = "auto",
    asr: Annotated[str, typer.Option(help="What transcribes: tiny.en, a Whisper folder, a model at --asr-url.")] = "",
    asr_url: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Clips at once.  [default: as many as fit]")] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make the clips first, from --prompts or the small set that is shipped.")
    ] = False,
    model: Annotated[str, typer.Option("--model", "-m", help="What --generate makes them with.")] = "nano",
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="A category of the prompt file to make; may be repeated.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="NAME:option=value,... as in a line of generate --prompts; several are compared."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first clip that is made.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Say what each metric needs and whether it is here.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit code 0, not 3, when a metric could not be measured at all.")
    ] = False,
) -> None:
    """Score clips: loudness, speech quality, sync, with intervals and chance levels, into result.json and report.html."""
    from phonofilm.errors import InputError
    from phonofilm.evaluation.catalogue import suite as suite_of
    from phonofilm.evaluation.evaluate import lacks_a_metric, make_setup

    setup = make_setup(profile, weights, device, asr, asr_url)
    names = tuple(name.strip() for name in metrics.split(",")) if metrics else suite_of(suite)
    if check:
        raise typer.Exit(_print_checks(names, setup))
    if output is None or bool(clips) == generate:
        raise InputError(
            "name the clips or their folder, and a folder for the report: phonofilm evaluate CLIPS -o REPORT; or no clips "
            "and --generate, which makes them"
        )
    reports = {output: clips or []}
    if generate:
        from phonofilm.cli.progress import open_display
        from phonofilm.evaluation.generating import generate_reports, shipped_prompts

        prompts = prompts or shipped_prompts()
        with open_display() as show:
            reports = generate_reports(model, device, prompts, sets or (), setting or ("default",), output, seed, show)
    found = [_measure(those, report, names, setup, prompts, jobs) for report, those in reports.items()]
    first, *others = reports
    for other in others:
        _compare(first, other, output / f"{first.name}-{other.name}")
    raise typer.Exit(3 if any(map(lacks_a_metric, found)) and not allow_missing else 0)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A report's folder, or its result.json.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another report of the same clips.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for compare.json and compare.html.")
    ] = None,
) -> None:
    """Compare two reports clip by clip: mean differences B - A with their intervals."""
    _compare(first, second, output)


def _compare(first: Path, second: Path, output: Path | None) -> None:
    from phonofilm.cli.terminal import console, table
    from phonofilm.evaluation.compare import compare_results, write_comparison
    from phonofilm.evaluation.result import read_result
    from phonofilm.evaluation.text_tables import COMPARISON_COLUMNS, comparison_rows

    found = compare_results(read_result(first), read_result(second))
    console().print(table(COMPARISON_COLUMNS, comparison_rows(found), f"A: {first}, B: {second}"))
    if output is not None:
        for path in write_comparison(found, first, second, output):
            typer.echo(path)


def _measure(
    clips: list[Path], output: Path, names: tuple[str, ...], setup: Setup, prompts: Path | None, jobs: int | None
) -> Evaluated:
    """Plan, measure with a bar, write, and print the figures, and below them why rows are not ok."""
    from phonofilm.cli.terminal import console, counting, table
    from phonofilm.evaluation import text_tables
    from phonofilm.evaluation.evaluate import evaluate as measure
    from phonofilm.evaluation.evaluate import plan_evaluation, write_report
    from phonofilm.evaluation.measuring import processes
    from phonofilm.untrusted import printable

    plan = plan_evaluation(clips, output, names, setup, prompts, jobs)
    workers = plan.jobs or processes(len(plan.clips))
    typer.echo(
        f"{len(plan.clips)} clips, {len(plan.metrics)} metrics ({', '.join(plan.metrics)}), profile {setup.profile}, "
        f"{workers} at a time",
        err=True,
    )
    with counting("Measuring") as bar:
        measured = measure(plan, prompts, bar)
    console().print(table(text_tables.SUMMARY_COLUMNS, text_tables.summary_rows(measured)))
    for line in text_tables.reason_lines(measured):
        typer.echo(printable(line), err=True)
    for path in write_report(measured, output):
        typer.echo(path)
    return measured


def _print_checks(names: tuple[str, ...], setup: Setup) -> int:
    """One line per metric; 0 when all are ready, else 3."""
    from rich.table import Column

    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.evaluation.catalogue import build
    from phonofilm.evaluation.weights import check

    checks = [check(metric, hashes=True) for metric in build(names, setup)]
    colours = {True: "green", False: "yellow"}
    rows = [
        (one.metric, cell(one.readiness, colours[one.readiness == "ready"]), cell("\n".join(one.lacks)))
        for one in checks
    ]
    console().print(table(("metric", "", Column("what is missing", overflow="fold")), rows))
    return 0 if all(one.readiness == "ready" for one in checks) else 3
