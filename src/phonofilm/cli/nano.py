"""`phonofilm nano`: the embedded model's world and its recipe. Only glue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The small embedded model: look at its world, train it again.", no_args_is_help=True)


@app.command()
def world(
    out: Annotated[Path, typer.Option(help="Folder for the clips, their captions and metadata.json.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many clips.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first clip; from 10000000 on they are held out.")] = 0,
    scene: Annotated[str | None, typer.Option(help="ball, face, lamp or xylophone; by default the seed picks.")] = None,
    size: Annotated[int, typer.Option(min=16, help="Height and width in pixels.")] = 64,
    frames: Annotated[int, typer.Option(min=1, help="Frames, at 24 per second.")] = 49,
) -> None:
    """Write clips of the procedural world: mp4, caption and, for measuring, the hidden state of each."""
    from rich.progress import track

    from phonofilm.nano.export import export_world

    clips = export_world(out, count, first_seed=seed, scene=scene, size=size, num_frames=frames)
    for _ in track(clips, description="Rendering", total=count):
        pass
    typer.echo(f"{count} clips in {out}")


@app.command()
def train(
    run: Annotated[Path, typer.Option(help="Folder of the run; the same folder goes on where it stopped.")],
    stage: Annotated[
        list[str] | None,
        typer.Option(help="video-vae, audio-vae, text, latents, joint, experts or package; by default all, in order."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the autoencoders train and encode: cpu, cuda, mps.")] = "cpu",
) -> None:
    """Train the embedded model from nothing, stage by stage; a stage that is done is not done again."""
    import logging

    from phonofilm.nano.recipe import Recipe, Run, run_recipe

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    checkpoint = run_recipe(Run(Recipe(), run, device), stage or ())
    typer.echo(f"checkpoint in {checkpoint}" if checkpoint else f"not finished; the same command goes on in {run}")
