"""`phonofilm prompt`: an idea rewritten into a prompt, and a first frame for it. Only glue; docs/prompts.md explains it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.option_groups import spread
from phonofilm.cli.serving_options import FirstFrames, WritingEndpointUrl, WritingModel
from phonofilm.errors import InputError


@spread
def prompt(
    idea: Annotated[str, typer.Argument(help="What the clip is about; words in quotation marks are kept.")],
    image: Annotated[Path | None, typer.Option("--image", "-i", help="First frame; the model has to see.")] = None,
    endpoint: WritingEndpointUrl = None,
    model: WritingModel = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="Length of the clip.")] = 8.0,
    *,
    frames: FirstFrames,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of the first frame.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the first frame, where the model takes one.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the first frame.")] = Path("first-frame.png"),
) -> None:
    """Rewrite an idea as a prompt: scene, action, speech, sounds. The prompt is printed and nothing else.

    \b
    phonofilm prompt 'A fisherman says "No luck today."' --endpoint http://localhost:8080/v1 --model qwen3
    """
    from phonofilm.files import check_target
    from phonofilm.untrusted import printable
    from phonofilm.writing.first_frame import ready_frame_source, write_first_frame
    from phonofilm.writing.prompt_writer import PromptWriter
    from phonofilm.writing.writing_endpoint import require_writing_endpoint

    writer = PromptWriter(require_writing_endpoint(endpoint, model).open(), names_endpoint=True)
    drawing = frames.drawing()
    if drawing is not None:
        if image is not None:
            raise InputError("a first frame was given with --image and another asked for; leave one out")
        check_target(output, overwrite=False)
        source = ready_frame_source(drawing, size)
    written = writer.write(idea, image, seconds)
    typer.echo(printable(written))
    if drawing is not None:
        write_first_frame(source, written, output, size, seed)
        typer.echo(f"first frame: {printable(str(output))}", err=True)
