"""`phonofilm nano`: the embedded model's world, and its recipe where the repository is there. Only glue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.repository import ELSEWHERE, Repository
from phonofilm.cli.terminal import counting

app = typer.Typer(help="The small embedded model: look at its world, train it again.", no_args_is_help=True)
RECIPE = Repository("recipes.nano.command_line", "the recipe of the embedded model is", "pip install -e '.[train]'")


@app.command()
def world(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the clips, their captions and metadata.json.")
    ],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many clips.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first clip; from 10000000 on they are held out.")] = 0,
    scene: Annotated[
        str | None,
        typer.Option(help="ball, face, lamp, xylophone (by default the seed picks), or owl, which nano never saw."),
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Height and width in pixels.")] = 64,
    frames: Annotated[int, typer.Option(min=1, help="Frames, at 24 per second.")] = 49,
) -> None:
    """Write clips of the procedural world: mp4, caption and, for measuring, the hidden state of each."""
    from phonofilm.nano.world_files import export_world

    clips = export_world(output, count, first_seed=seed, scene=scene, size=size, num_frames=frames)
    with counting("Rendering") as bar:
        for done, _ in enumerate(clips, start=1):
            bar(done, count)
    typer.echo(f"{count} clips in {output}")


@app.command(context_settings=ELSEWHERE)
def train(context: typer.Context) -> None:
    """Train the embedded model from nothing, stage by stage; a stage that is done is not done again."""
    RECIPE.run(context)


@app.command(context_settings=ELSEWHERE)
def measure(context: typer.Context) -> None:
    """Measure sync, what comes out as prompted, the autoencoders and speed; docs/measuring.md explains the figures."""
    RECIPE.run(context)


@app.command(context_settings=ELSEWHERE)
def learned(context: typer.Context) -> None:
    """Measure what a LoRA taught the embedded model of a new scene, and what it forgot; docs/tutorial.md."""
    RECIPE.run(context)
