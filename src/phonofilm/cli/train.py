"""`phonofilm train`: fine-tune a checkpoint on a folder of clips. Only glue; docs/training.md explains it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli.run_by_default import RunByDefault

if TYPE_CHECKING:
    from phonofilm.training.config.finetune_config import FinetuneConfig
    from phonofilm.training.dry_run.estimate import Estimate
    from phonofilm.training.loop.trainer import Trainer
    from phonofilm.training.task.adapters import AdaptedPart
    from phonofilm.training.task.finetune_task import FinetuneTask
    from phonofilm.training.task.interface import Hook


app = typer.Typer(cls=RunByDefault, no_args_is_help=True)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")]
CONFIGS = "low_resource, accelerate, fsdp, bridge_only, nano, distill, distill_nano"
Config = Annotated[str, typer.Option("--config", "-c", help=f"{CONFIGS}, or a YAML file.")]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="Folder or manifest of clips; may be repeated. Weights: data.sets in the YAML."),
]
TOGETHER = "GPUs of this machine that train together, each on other clips unless context_parallel is set."
Gpus = Annotated[int, typer.Option("--gpus", min=1, help=TOGETHER)]
Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings over the config's: optimizer.lr=2e-4 lora.audio=null ...")
]


@app.callback()
def train() -> None:
    """Fine-tune a model on clips. `phonofilm train -o RUN ...` is `phonofilm train run -o RUN ...`."""


@app.command()
def run(
    output: Output,
    config: Config = "accelerate",
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's latest checkpoint.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="A key that may differ from the run that is resumed.")
    ] = None,
    gpus: Gpus = 1,
    overrides: Settings = None,
) -> None:
    """Fine-tune: a LoRA file that lies in the run's folder when it ends, or whole weights.

    What the run will take is measured first; `phonofilm train plan` with the same options only does that.
    """
    given = [f"--allow={key}" for key in allow or ()] + (["--resume"] if resume else [])
    if _started(gpus, "run", output, config, data, given, overrides):
        return

    from phonofilm.evaluation.training_curves import check_plotting
    from phonofilm.training.config.config_files import read_config
    from phonofilm.training.finetune import open_run

    check_plotting()
    settings = read_config(config, overrides or (), data or ())
    with open_run(settings, output, resume=resume, allow=allow or ()) as goes_on:
        _train(settings, output, goes_on, allow or ())


def _train(config: FinetuneConfig, output: Path, resume: bool, allow: Sequence[str]) -> None:
    """What `run` does once the run folder is its own."""
    from phonofilm.cli.training_progress import report_training
    from phonofilm.evaluation.training_curves import draw_curves
    from phonofilm.training.finetune import finetune
    from phonofilm.training.loop.processes import join_processes

    task, hooks = _prepared(config, output)

    def plan(trainer: Trainer) -> None:
        _measure(task, trainer)

    with report_training() as report:
        end = finetune(task, output, hooks, resume=resume, allow=allow, watch=report, before=plan)
    if not join_processes(task.config).is_main_process:
        return
    curves = draw_curves(output)
    typer.echo(f"{end.run.reason} after {end.run.step} updates" + (f": {end.result}" if end.result else ""))
    if curves is not None:
        typer.echo(f"curves: {curves}")


@app.command()
def plan(
    output: Output,
    config: Config = "accelerate",
    data: Data = None,
    gpus: Gpus = 1,
    overrides: Settings = None,
) -> None:
    """Measure what a run with these options will take, by a dry run, and stop there."""
    if _started(gpus, "plan", output, config, data, (), overrides):
        return

    from phonofilm.training.config.config_files import read_config
    from phonofilm.training.finetune import open_run
    from phonofilm.training.loop.trainer import Trainer

    settings = read_config(config, overrides or (), data or ())
    with open_run(settings, output, only_plan=True):
        task, hooks = _prepared(settings, output)
        _measure(task, Trainer(task, task.config, output, hooks))


def _started(
    gpus: int,
    command: str,
    output: Path,
    config: str,
    data: Sequence[Path] | None,
    given: Sequence[str],
    overrides: Sequence[str] | None,
) -> bool:
    """Whether processes were started that have done it all, one for each GPU."""
    from phonofilm.parallel.command_launcher import are_to_be_started, start_processes

    if not are_to_be_started(gpus):
        return False
    sets = [f"--data={path}" for path in data or ()]
    options = [f"--output={output}", f"--config={config}", *sets, *given, *(overrides or ())]
    if code := start_processes(gpus, ["train", command, *options]):
        raise typer.Exit(code)
    return True


def _prepared(config: FinetuneConfig, output: Path) -> tuple[FinetuneTask, tuple[Hook, ...]]:
    """What is to be trained and what looks on, loaded and checked; what is adapted is printed."""
    from phonofilm.cli.training_progress import TrainingLines
    from phonofilm.training.finetune import prepare_finetune
    from phonofilm.training.finetune_hooks import finetune_hooks
    from phonofilm.training.loop.processes import join_processes

    with TrainingLines():
        task = prepare_finetune(config, output)
        if task.adapted and join_processes(task.config).is_main_process:
            _print_adapted(task.adapted)
        return task, finetune_hooks(task, output)


def _measure(task: FinetuneTask, trainer: Trainer) -> None:
    from phonofilm.training.finetune_hooks import finetune_dry_run
    from phonofilm.training.loop.processes import join_processes

    estimate = finetune_dry_run(task, trainer)
    if join_processes(task.config).is_main_process:
        _print_estimate(estimate)


def _print_estimate(estimate: Estimate) -> None:
    from rich.table import Column

    from phonofilm.cli.terminal import console, table

    columns = ("measured dry run", Column("", justify="right"))
    console(error=True).print(table(columns, estimate.lines()))


def _print_adapted(parts: tuple[AdaptedPart, ...]) -> None:
    from rich.table import Column

    from phonofilm.cli.terminal import console, table

    rows = []
    for part in parts:
        rate = "optimizer.lr" if part.config.lr is None else f"{part.config.lr:g}"
        about = (str(part.config.rank), f"{part.config.alpha:g}", rate, f"{part.parameters:,}")
        rows.append((part.part, str(len(part.layers)), ", ".join(part.targets), *about))
    columns = ("part", Column("layers", justify="right"), "targets", "rank", "alpha", "lr", "parameters")
    console().print(table(columns, rows))
