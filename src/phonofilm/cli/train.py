"""`phonofilm train`: fine-tune a checkpoint on a folder of clips. Only glue; docs/training.md explains it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.run_by_default import RunByDefault

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
    from phonofilm.cli.training_progress import TrainingTerminal
    from phonofilm.evaluation.training_curves import check_plotting, draw_curves
    from phonofilm.evaluation.world_reader import WorldReader
    from phonofilm.training.config.config_files import read_config
    from phonofilm.training.run_training import run_training
    from phonofilm.training.several_processes import in_processes

    check_plotting()
    settings = read_config(config, overrides or (), data or ())
    end = in_processes(
        gpus, settings, run_training, settings, output, TrainingTerminal(), WorldReader(), resume, allow or ()
    )
    if end is None:
        return
    typer.echo(end.line)
    if (curves := draw_curves(output)) is not None:
        typer.echo(f"curves: {curves}")


@app.command()
def plan(
    output: Output, config: Config = "accelerate", data: Data = None, gpus: Gpus = 1, overrides: Settings = None
) -> None:
    """Measure what a run with these options will take, by a dry run, and stop there."""
    from phonofilm.cli.training_progress import TrainingTerminal
    from phonofilm.evaluation.world_reader import WorldReader
    from phonofilm.training.config.config_files import read_config
    from phonofilm.training.run_training import plan_training
    from phonofilm.training.several_processes import in_processes

    settings = read_config(config, overrides or (), data or ())
    in_processes(gpus, settings, plan_training, settings, output, TrainingTerminal(), WorldReader())
