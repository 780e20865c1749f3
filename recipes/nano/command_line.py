"""The options of `phonofilm nano train`, `measure` and `learned`, which the command line finds here where the repository is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

app = typer.Typer()


@app.command()
def train(
    run: Annotated[Path, typer.Option(help="Folder of the run; the same folder goes on where it stopped.")],
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="video-vae, audio-vae, audio-decoder, text, latents, joint, experts, package or student; by default all."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the autoencoders train and encode: cpu, cuda, mps.")] = "cpu",
    edition: Annotated[
        int, typer.Option(help="1: as shipped, 64x64, for a CPU in hours. 2: 128x128 and longer, for minutes of a GPU.")
    ] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.5, help="For the whole of edition 2, shared by its stages, 8 by default; of training with --on, 75."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Go on with a finished checkpoint's towers, nano or a folder, on clips of which half are balls."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what it will take.")] = False,
) -> None:
    """Train the embedded model from nothing, stage by stage; a stage that is done is not done again."""
    from phonofilm.errors import InputError
    from recipes.nano.editions import recipe_of_edition
    from recipes.nano.further import FurtherConfig, train_on
    from recipes.nano.plan import plan_lines
    from recipes.nano.recipe import RecipeRun
    from recipes.nano.stages import chosen_stages, run_recipe

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if on is not None:
        if edition != 1 or stage or plan or device != "cpu":
            raise InputError(
                "--on goes on with a checkpoint on the CPU; leave --edition, --stage, --device and --plan away"
            )
        further = FurtherConfig() if minutes is None else FurtherConfig().within(minutes)
        _end(train_on(on, run, further), run)
        return
    recipe, stages = recipe_of_edition(edition, minutes), chosen_stages(stage or ())
    for line in plan_lines(recipe, device):
        typer.echo(line)
    if plan:
        return
    _end(run_recipe(RecipeRun(recipe, run, device), stages), run)


@app.command()
def measure(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the report and the clips; clips already there are taken up."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="nano, or the folder of a checkpoint like it.")] = "nano",
    clips: Annotated[int, typer.Option(min=8, help="Held-out clips, scenes in turn.")] = 100,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="How strongly the prompt is followed; 1 is off.")] = None,
    audio_guidance_scale: Annotated[float | None, typer.Option(help="The same for the sound alone.")] = None,
    modality_scale: Annotated[float | None, typer.Option(help="s_B of every row but the sweep's.")] = None,
    sweep: Annotated[list[float] | None, typer.Option(help="A value of s_B to try; 1, 2, 3 and 4 by default.")] = None,
    sweep_clips: Annotated[int, typer.Option(min=1, help="Held-out clips per value of s_B.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Clips made at once.")] = 8,
    samples: Annotated[int, typer.Option(min=0, help="Clips of each kind to write as mp4 and contact sheet.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first clip's start noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="16 clips and no sweep.")] = False,
) -> None:
    """Measure sync, what comes out as prompted, the autoencoders and speed; docs/measuring.md explains the figures."""
    from recipes.nano.measuring.generated_clips import MeasurePlan
    from recipes.nano.measuring.measure_model import measure_model

    plan = MeasurePlan(
        clips=16 if quick else clips,
        noise_seed=seed,
        steps=steps,
        guidance_scale=guidance_scale,
        audio_guidance_scale=audio_guidance_scale,
        modality_scale=modality_scale,
        sweep=() if quick else tuple(sweep or MeasurePlan.sweep),
        sweep_clips=sweep_clips,
        batch=batch,
    )
    with row_bars() as show:
        text, files = measure_model(model, device, plan, output, samples, show)
    typer.echo(f"{text}\n{len(files)} files in {output}")


@app.command()
def learned(
    lora: Annotated[list[str], typer.Option("--lora", help="FILE or FILE:STRENGTH, as for generate; may be repeated.")],
    trained_on: Annotated[
        list[Path],
        typer.Option(exists=True, help="Folder or manifest of the clips that the LoRA learnt from; may be repeated."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the report and the clips; clips already there are taken up."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="nano, or the folder of a checkpoint like it.")] = "nano",
    scene: Annotated[str, typer.Option(help="The scene that was taught.")] = "owl",
    clips: Annotated[int, typer.Option(min=1, help="Held-out clips of the new scene.")] = 24,
    old_clips: Annotated[int, typer.Option(min=4, help="Held-out clips of the old scenes, in turn.")] = 32,
    first_frame: Annotated[bool, typer.Option("--first-frame", help="Once more with a first frame given.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips made at once.")] = 8,
    samples: Annotated[int, typer.Option(min=0, help="Prompts of which both clips are written.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Measure what a LoRA taught the embedded model of a new scene, and what it forgot; docs/tutorial.md."""
    from recipes.nano.measuring.generated_clips import MeasurePlan
    from recipes.nano.measuring.measure_model import LearnedScene, measure_lora

    plan = MeasurePlan(clips=old_clips, steps=steps, batch=batch)
    taught = LearnedScene(tuple(lora), tuple(trained_on), scene, clips, first_frame)
    with row_bars() as show:
        text, files = measure_lora(model, device, taught, plan, output, samples, show)
    typer.echo(f"{text}\n{len(files)} files in {output}")


def _end(checkpoint: Path | None, run: Path) -> None:
    typer.echo(f"checkpoint in {checkpoint}" if checkpoint else f"not finished; the same command goes on in {run}")


@contextmanager
def row_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each row of the report, on standard error and gone at the end."""
    with Progress(console=Console(stderr=True), transient=True) as bars:
        shown: dict[str, TaskID] = {}

        def show(row: str, done: int, total: int) -> None:
            if row not in shown:
                shown[row] = bars.add_task(row, total=total)
            bars.update(shown[row], completed=done, total=total)

        yield show
