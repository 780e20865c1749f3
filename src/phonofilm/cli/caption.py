"""`phonofilm data caption`: captions from a model behind an OpenAI-compatible endpoint. Only glue."""

from __future__ import annotations

from typing import Annotated

import typer

from phonofilm.cli.option_groups import spread
from phonofilm.data.caption_options import CaptionOptions

OPTIONS = {
    "data": typer.Argument(help="Folder of clips, manifest, or YAML of several sets.", show_default=False),
    "base_url": typer.Option(envvar="OPENAI_BASE_URL", help="The endpoint, up to and with /v1."),
    "model": typer.Option("--model", "-m", help="Its model, as the endpoint names it."),
    "key_from": typer.Option(help="Environment variable with the key; where it is not set, none is sent."),
    "frames": typer.Option(min=1, max=64, help="Pictures shown of each clip."),
    "sound": typer.Option(help="input-audio (the model listens), transcript (words only), or none."),
    "speech_model": typer.Option(help="Model for transcripts, at the same endpoint."),
    "merge": typer.Option(help="Let the model write one caption of what was seen and heard."),
    "prompts": typer.Option(help="YAML with any of visual, speech, sound, merge in place of our prompts."),
    "per_minute": typer.Option(min=0.01, help="Most requests per minute."),
    "retries": typer.Option(min=0, help="More tries of a request that may yet succeed."),
    "timeout": typer.Option(min=0.1, help="Seconds to wait for an answer."),
}


@spread
def caption(
    given: Annotated[CaptionOptions, OPTIONS],
    show_prompts: Annotated[bool, typer.Option("--show-prompts", help="Print the prompts as YAML and stop.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Clips asked about at a time.")] = 4,
) -> None:
    """Write captions for the clips that have none, [VISUAL]: ... [SPEECH]: ...; run again for those that failed.

    Exit code 1 when some failed. A caption that is there is kept; delete its .txt to have it written anew.
    """
    from phonofilm.cli.terminal import counting
    from phonofilm.data.captioning import caption_all, without_caption
    from phonofilm.untrusted import printable

    if show_prompts:
        typer.echo(given.texts_as_yaml(), nl=False)
        return
    items, captioner = given.work()
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
