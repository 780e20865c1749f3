"""`phonofilm evaluate`: score clips, say what can be scored here, compare two reports. Only glue; docs/evaluation.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli.option_groups import spread
from phonofilm.cli.run_by_default import RunByDefault
from phonofilm.evaluation.evaluation_options import EvaluationOptions

if TYPE_CHECKING:
    from phonofilm.evaluation.metric import Setup
    from phonofilm.evaluation.result import Evaluated

app = typer.Typer(cls=RunByDefault, no_args_is_help=True)


OPTIONS = {
    "output": typer.Option("--output", "-o", help="Folder of the report; the same folder goes on where it stopped."),
    "prompts": typer.Option(help="JSON of the clips' prompts, in Verse-Bench's form."),
    "suite": typer.Option(help="verse-bench, sync, speech, audio or all.  [default: all]"),
    "metrics": typer.Option(help="Names of metrics, with commas; instead of a suite."),
    "profile": typer.Option(help="compat scores as the published code, fixed rightly."),
    "weights": typer.Option(help="Folder of published weights.  [default: $PHONOFILM_EVALUATION_WEIGHTS]"),
    "device": typer.Option(help="Where networks and --generate run: auto, cpu, cuda, cuda:N, mps."),
    "asr": typer.Option(help="What transcribes: tiny.en, a Whisper folder, a model at --asr-url."),
    "asr_url": typer.Option(help="Address of an OpenAI-compatible server."),
    "jobs": typer.Option(min=1, help="Clips at once.  [default: as many as fit]"),
    "ray": typer.Option(metavar="ADDRESS", help="Share the clips on Ray: auto or HOST:PORT; local starts it here."),
    "model": typer.Option("--model", "-m", help="What --generate makes them with."),
    "sets": typer.Option("--set", help="A category of the prompt file to make; may be repeated."),
    "setting": typer.Option(help="NAME:option=value,... as in a line of generate --prompts; several are compared."),
    "seed": typer.Option(min=0, help="Seed of the first clip that is made."),
}


@app.callback()
def evaluate() -> None:
    """Score clips: `phonofilm evaluate CLIPS -o REPORT`. All its options: `phonofilm evaluate run --help`."""


@app.command()
@spread
def run(
    given: Annotated[EvaluationOptions, OPTIONS],
    clips: Annotated[list[Path] | None, typer.Argument(help="Clip files, and folders to search.")] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make the clips first, from --prompts or the small set that is shipped.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what each metric needs and whether it is here.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit code 0, not 3, when a metric lacks something on every clip.")
    ] = False,
) -> None:
    """Score clips: loudness, speech quality, sync, with intervals and chance levels, into result.json and report.html."""
    from phonofilm.evaluation.evaluate import lacks_a_metric

    setup, names = given.setup(), given.metric_names()
    if check:
        raise typer.Exit(_print_checks(names, setup))
    output = given.report_folder(clips or [], generate)
    reports = {output: clips or []}
    if generate:
        from phonofilm.cli.progress import open_display

        given = given.or_shipped_prompts()
        with open_display() as show:
            reports = given.make_clips(output, show)
    found = [_measure(those, report, setup, given) for report, those in reports.items()]
    first, *others = reports
    for other in others:
        _compare(first, other, output / f"{first.name}-{other.name}")
    raise typer.Exit(3 if any(lacks_a_metric(one, allow_missing) for one in found) else 0)


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
    from phonofilm.evaluation.compare import differences, paired_figures, remarks, write_comparison
    from phonofilm.evaluation.result import read_result
    from phonofilm.evaluation.text_tables import COMPARISON_COLUMNS, comparison_rows

    clips = paired_figures(one := read_result(first), other := read_result(second))
    found = differences(clips)
    console().print(table(COMPARISON_COLUMNS, comparison_rows(found), f"A: {first}, B: {second}"))
    typer.echo("\n".join(remarks(one, other)), err=True)
    if output is not None:
        for path in write_comparison(found, clips, first, second, output):
            typer.echo(path)


def _measure(clips: list[Path], output: Path, setup: Setup, given: EvaluationOptions) -> Evaluated:
    """Plan, measure with a bar, write, and print the figures, and below them why rows are not ok."""
    from phonofilm.cli.terminal import console, counting, table
    from phonofilm.evaluation import evaluate as evaluation
    from phonofilm.evaluation import text_tables
    from phonofilm.serving.cluster.clips_on_ray import sharing_of
    from phonofilm.untrusted import printable

    names, sets = given.metric_names(), given.sets or ()
    plan = evaluation.plan_evaluation(clips, output, names, setup, given.prompts, given.jobs, given.ray, sets)
    typer.echo(plan.summary, err=True)
    with evaluation.sole_writer(output):
        with sharing_of(plan.ray) as sharing, counting("Measuring") as bar:
            measured = evaluation.evaluate(plan, bar, sharing)
        console().print(table(text_tables.SUMMARY_COLUMNS, text_tables.summary_rows(measured)))
        for line in text_tables.reason_lines(measured):
            typer.echo(printable(line), err=True)
        for path in evaluation.write_report(measured, output):
            typer.echo(path)
    return measured


def _print_checks(names: tuple[str, ...], setup: Setup) -> int:
    """One line per metric; 0 when all are ready, else 3."""
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.evaluation.text_tables import CHECK_COLUMNS
    from phonofilm.evaluation.weights import check_all

    checks = check_all(names, setup)
    colours = {True: "green", False: "yellow"}
    rows = [(one.metric, cell(one.readiness, colours[one.is_ready]), cell("\n".join(one.lacks))) for one in checks]
    console().print(table(CHECK_COLUMNS, rows))
    return 0 if all(one.is_ready for one in checks) else 3
