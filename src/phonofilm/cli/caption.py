"""`phonofilm data caption`: captions from a model behind an OpenAI-compatible endpoint. Only glue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def caption(
    data: Annotated[
        Path | None, typer.Argument(help="Folder of clips, manifest, or YAML of several sets.", show_default=False)
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(envvar="OPENAI_BASE_URL", help="The endpoint, up to and with /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Its model, as the endpoint names it.")] = None,
    key_from: Annotated[
        str, typer.Option(help="Environment variable with the key; where it is not set, none is sent.")
    ] = "OPENAI_API_KEY",
    frames: Annotated[int, typer.Option(min=1, max=64, help="Pictures shown of each clip.")] = 8,
    sound: Annotated[
        str, typer.Option(help="input-audio (the model listens), transcript (words only), or none.")
    ] = "input-audio",
    speech_model: Annotated[str, typer.Option(help="Model for transcripts, at the same endpoint.")] = "whisper-1",
    merge: Annotated[bool, typer.Option(help="Let the model write one caption of what was seen and heard.")] = True,
    prompts: Annotated[
        Path | None, typer.Option(help="YAML with any of visual, speech, sound, merge in place of our prompts.")
    ] = None,
    show_prompts: Annotated[bool, typer.Option("--show-prompts", help="Print the prompts as YAML and stop.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Clips asked about at a time.")] = 4,
    per_minute: Annotated[float | None, typer.Option(min=0.01, help="Most requests per minute.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="More tries of a request that may yet succeed.")] = 5,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 120.0,
) -> None:
    """Write captions for the clips that have none, [VISUAL]: ... [SPEECH]: ...; run again for those that failed.

    Exit code 1 when some failed. A caption that is there is kept; delete its .txt to have it written anew.
    """
    import os
    from dataclasses import asdict

    from phonofilm.cli.terminal import counting
    from phonofilm.data.captioning import caption_all, without_caption
    from phonofilm.data.describe import Captioner, parse_hearing
    from phonofilm.data.endpoint import Endpoint
    from phonofilm.data.prompts import Prompts, as_yaml, read_prompts
    from phonofilm.data.request_pace import RequestPace
    from phonofilm.data.sets import read_items
    from phonofilm.errors import InputError
    from phonofilm.untrusted import printable

    texts = Prompts() if prompts is None else read_prompts(prompts)
    if show_prompts:
        typer.echo(as_yaml(asdict(texts)), nl=False)
        return
    if data is None or not base_url or not model:
        raise InputError("name the clips, the endpoint that is to see and hear them (--base-url) and its --model")
    token = os.environ.get(key_from) or None
    endpoint = Endpoint(base_url, model, token, timeout=timeout, retries=retries, pace=RequestPace(per_minute))
    captioner = Captioner(endpoint, texts, frames, parse_hearing(sound), speech_model, merge)
    items = read_items(data)
    pending = without_caption(items)
    failed = 0
    with counting("Captioning") as bar:
        for done, answer in enumerate(caption_all(pending, captioner, concurrency), start=1):
            bar(done, len(pending))
            if answer.failure is not None:
                failed += 1
                typer.echo(printable(f"{answer.item.name}: {answer.failure}"), err=True)
    typer.echo(f"{len(pending) - failed} captions written, {len(items) - len(pending)} kept, {failed} failed")
    if failed:
        typer.echo("the same command tries those that failed again", err=True)
        raise typer.Exit(1)
