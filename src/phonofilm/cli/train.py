"""`phonofilm train`: fine-tune a checkpoint on a folder of clips. Only glue; docs/training.md explains it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonofilm.training.dry_run.estimate import Estimate
    from phonofilm.training.task.adapters import AdaptedPart


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    config: Annotated[
        str, typer.Option("--config", "-c", help="low_resource, accelerate, fsdp, bridge_only, nano, or a YAML file.")
    ] = "accelerate",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder or manifest of clips; may be repeated. Weights: data.sets in the YAML."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's latest checkpoint.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="A key that may differ from the run that is resumed.")
    ] = None,
    gpus: Annotated[
        int,
        typer.Option(
            "--gpus",
            min=1,
            help="GPUs of this machine that train together, each on other clips unless context_parallel is set.",
        ),
    ] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings over the config's: optimizer.lr=2e-4 lora.audio=null ...; plan: only measure."),
    ] = None,
) -> None:
    """Fine-tune a model on clips: a LoRA file that lies in the run's folder when it ends, or whole weights.

    What the run will take is measured first. `phonofilm train plan ...` stops there.
    """
    import logging

    from phonofilm.cli.training_processes import are_to_be_started, start_processes

    if are_to_be_started(gpus):
        given = [f"--data={path}" for path in data or ()] + [f"--allow={key}" for key in allow or ()]
        given += ["--resume"] if resume else []
        start_processes(gpus, ["train", f"--output={output}", f"--config={config}", *given, *(overrides or ())])
        return

    from phonofilm.cli.training_curves import check_plotting, draw_curves
    from phonofilm.cli.training_progress import report_training
    from phonofilm.training.config.config_files import read_config
    from phonofilm.training.finetune import finetune, prepare_finetune
    from phonofilm.training.finetune_hooks import finetune_dry_run, finetune_hooks
    from phonofilm.training.loop.processes import join_processes
    from phonofilm.training.loop.trainer import Trainer

    logging.getLogger("phonofilm").setLevel(logging.INFO)
    check_plotting()
    only_plan = (overrides or [""])[0] == "plan"
    settings = (overrides or [])[1 if only_plan else 0 :]
    task = prepare_finetune(read_config(config, settings, data or ()), output)
    first = join_processes(task.config).is_main_process
    if task.adapted and first:
        _print_adapted(task.adapted)
    hooks = finetune_hooks(task, output)

    def plan(trainer: Trainer) -> None:
        estimate = finetune_dry_run(task, trainer)
        if first:
            _print_estimate(estimate)

    if only_plan:
        plan(Trainer(task, task.config, output, hooks))
        return
    with report_training() as report:
        end = finetune(task, output, hooks, resume=resume, allow=allow or (), watch=report, before=plan)
    if not first:
        return
    curves = draw_curves(output)
    typer.echo(f"{end.run.reason} after {end.run.step} updates" + (f": {end.result}" if end.result else ""))
    if curves is not None:
        typer.echo(f"curves: {curves}")


def _print_estimate(estimate: Estimate) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("measured dry run", Column("", justify="right"))
    for what, much in estimate.lines():
        table.add_row(what, much)
    Console(stderr=True).print(table)


def _print_adapted(parts: tuple[AdaptedPart, ...]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("part", Column("layers", justify="right"), "targets", "rank", "alpha", "lr", "parameters")
    for part in parts:
        targets = sorted({_target(layer) for layer in part.layers})
        rate = "optimizer.lr" if part.config.lr is None else f"{part.config.lr:g}"
        about = (str(part.config.rank), f"{part.config.alpha:g}", rate, f"{part.parameters:,}")
        table.add_row(part.part, str(len(part.layers)), ", ".join(targets), *about)
    Console().print(table)


def _target(layer: str) -> str:
    """The end of a layer's name: q, or ffn.0."""
    parts = layer.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
