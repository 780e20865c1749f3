"""`phonofilm evaluate`: score clips, say what can be scored here, compare two reports. Only glue; docs/evaluation.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli.train import RunByDefault

if TYPE_CHECKING:
    from phonofilm.evaluation.metric import Setup
    from phonofilm.evaluation.result import Evaluated

app = typer.Typer(cls=RunByDefault, no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Score clips. `phonofilm evaluate CLIPS -o REPORT` is `phonofilm evaluate run CLIPS -o REPORT`."""


@app.command()
def run(
    clips: Annotated[
        list[Path] | None, typer.Argument(help="Clip files, and folders that are searched through.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the report; the same folder goes on where it stopped."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON of what the clips were made from, in Verse-Bench's form.")
    ] = None,
    suite: Annotated[str, typer.Option(help="verse-bench, sync, speech, audio or all.")] = "all",
    metrics: Annotated[str | None, typer.Option(help="Names of metrics, with commas; instead of a suite.")] = None,
    profile: Annotated[
        str, typer.Option(help="compat scores as the published code does, fixed as it should.")
    ] = "compat",
    weights: Annotated[
        Path | None, typer.Option(help="Folder of published weights.  [default: $PHONOFILM_EVALUATION_WEIGHTS]")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where networks and --generate run: auto, cpu, cuda, cuda:N, mps.")
    ] = "auto",
    asr: Annotated[str, typer.Option(help="Name of the model that transcribes, at --asr-url.")] = "",
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

    setup = _setup(profile, weights, device, asr, asr_url)
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
        asked = _Request(model, prompts, tuple(sets or ()), tuple(setting or ("default",)), seed)
        reports = _generate(asked, device, output)
        prompts = prompts or asked.prompt_file
    found = [_measure(those, report, names, setup, prompts, jobs) for report, those in reports.items()]
    first, *others = reports
    for other in others:
        _compare(first, other, output / f"{first.name}-{other.name}")
    missing = any(one.states["unavailable"] == one.total for run in found for one in run.summaries.values())
    raise typer.Exit(3 if missing and not allow_missing else 0)


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


@dataclass(frozen=True)
class _Request:
    """What --generate was asked for."""

    model: str
    prompts: Path | None
    sets: tuple[str, ...]
    settings: tuple[str, ...]
    seed: int

    @property
    def prompt_file(self) -> Path:
        from phonofilm.evaluation.generating import shipped_prompts

        return self.prompts or shipped_prompts()


def _generate(asked: _Request, device: str, output: Path) -> dict[Path, list[Path]]:
    """Make the clips; the report's folder of each setting, and where its clips are."""
    from phonofilm.cli.progress import open_display
    from phonofilm.evaluation.generating import choose_sets, generate_clips, parse_setting
    from phonofilm.evaluation.prompts import read_prompt_items

    items = choose_sets(read_prompt_items(asked.prompt_file), asked.sets)
    settings = [parse_setting(text) for text in asked.settings]
    typer.echo(f"{len(items)} prompts x {len(settings)} settings with {asked.model}", err=True)
    with open_display() as show:
        made = generate_clips(asked.model, device, items, asked.prompt_file, settings, output, asked.seed, show)
    return {output / name: [folder] for name, folder in made.items()}


def _compare(first: Path, second: Path, output: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from phonofilm.evaluation.compare import compare_results, write_comparison
    from phonofilm.evaluation.result import read_result

    found = compare_results(read_result(first), read_result(second))
    table = Table("figure", "A", "B", "B - A", "95 %", "clips", "verdict", title=f"A: {first}, B: {second}")
    for one in found:
        interval = "–" if one.low is None or one.high is None else f"{one.low:+.4g} to {one.high:+.4g}"
        means = (f"{one.first:.4g}", f"{one.second:.4g}", f"{one.difference:+.4g}")
        table.add_row(one.label, *means, interval, str(one.clips), one.verdict)
    Console().print(table)
    if output is not None:
        for path in write_comparison(found, first, second, output):
            typer.echo(path)


def _setup(profile: str, weights: Path | None, device: str, asr: str, asr_url: str | None) -> Setup:
    from phonofilm.errors import InputError
    from phonofilm.evaluation.metric import PROFILES, Setup
    from phonofilm.evaluation.weights import weights_folder

    (known,) = [one for one in PROFILES if one == profile] or (None,)
    if known is None:
        raise InputError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    folder = weights_folder(weights)
    if folder is not None and not folder.is_dir():
        raise InputError(f"there is no folder {folder} with weights; make it, or leave --weights out")
    if folder is None:  # no network of ours can run, and asking for the device would start PyTorch
        return Setup(known, None, "cpu", asr, asr_url)
    from phonofilm.generation.placement.devices import choose_device

    return Setup(known, folder, str(choose_device(device)), asr, asr_url)


def _measure(
    clips: list[Path], output: Path, names: tuple[str, ...], setup: Setup, prompts: Path | None, jobs: int | None
) -> Evaluated:
    """Plan, measure with a bar, write, and print the table."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from phonofilm.evaluation.evaluate import evaluate as measure
    from phonofilm.evaluation.evaluate import plan_evaluation, write_report
    from phonofilm.evaluation.measuring import processes

    plan = plan_evaluation(clips, output, names, setup, prompts, jobs)
    workers = plan.jobs or processes(len(plan.clips))
    typer.echo(
        f"{len(plan.clips)} clips, {len(plan.metrics)} metrics ({', '.join(plan.metrics)}), profile {setup.profile}, "
        f"{workers} at a time",
        err=True,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("Measuring", total=None)
        measured = measure(plan, prompts, lambda done, total: bars.update(bar, completed=done, total=total))
    _print_summary(measured)
    for path in write_report(measured, output):
        typer.echo(path)
    return measured


def _print_summary(measured: Evaluated) -> None:
    """The figures, and below them why rows are not ok."""
    from rich.console import Console
    from rich.table import Table

    from phonofilm.untrusted import printable

    table = Table("figure", "value", "95 %", "chance", "n of N")
    for metric in measured.metrics:
        summary = measured.summaries[metric.name]
        for figure in metric.own_figures if summary.figures else metric.own_figures[:1]:
            found = summary.figures.get(figure.name)
            value = f"{found.value:.4g} {figure.unit}".strip() if found else "–"
            interval = f"{found.ci95[0]:.4g} to {found.ci95[1]:.4g}" if found and found.ci95 else "–"
            level = summary.chance_of(figure)
            chance = "" if level is None else f"{level:.4g}"
            table.add_row(figure.label, value, interval, chance, f"{summary.ok} of {summary.total}")
    Console().print(table)
    for reason, (count, names) in _reasons(measured).items():
        typer.echo(f"{', '.join(names)}: {count} × {printable(reason)}", err=True)


def _reasons(measured: Evaluated) -> dict[str, tuple[int, list[str]]]:
    """Every reason once: how many clips it holds for, and the metrics that give it."""
    found: dict[str, tuple[int, list[str]]] = {}
    for name, summary in measured.summaries.items():
        for reason, count in summary.reasons:
            most, names = found.get(reason, (0, []))
            found[reason] = (max(most, count), [*names, name])
    return found


def _print_checks(names: tuple[str, ...], setup: Setup) -> int:
    """One line per metric; 0 when all are ready, else 3."""
    from rich.console import Console
    from rich.table import Column, Table

    from phonofilm.cli.terminal import cell
    from phonofilm.evaluation.catalogue import build
    from phonofilm.evaluation.weights import check

    table = Table("metric", "", Column("what is missing", overflow="fold"))
    checks = [check(metric, hashes=True) for metric in build(names, setup)]
    for one in checks:
        colour = "green" if one.readiness == "ready" else "yellow"
        table.add_row(one.metric, f"[{colour}]{one.readiness}[/{colour}]", cell("\n".join(one.lacks)))
    Console().print(table)
    return 0 if all(one.readiness == "ready" for one in checks) else 3
