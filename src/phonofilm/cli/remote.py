"""`phonofilm submit|status|wait|fetch|cancel|list`: clips of a server. Only glue; docs/serving.md explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phonofilm.cli.option_groups import spread
from phonofilm.cli.wording import in_flags
from phonofilm.serving import client_clips, client_jobs

Server = Annotated[
    str | None, typer.Option(envvar="PHONOFILM_SERVER", help="The server. [default: http://127.0.0.1:8000]")
]
Key = Annotated[str | None, typer.Option("--key", envvar="PHONOFILM_API_KEY", help="The key, if it wants one.")]
Ids = Annotated[list[str], typer.Argument(help="Jobs, as submit prints them.")]

SUBMISSION = {
    "prompt": typer.Argument(help="What is seen and heard."),
    "image": typer.Option("--image", "-i", help="First frame."),
    "last_image": typer.Option(help="Last frame."),
    "keyframe": typer.Option(metavar="SECONDS=FILE", help="A picture at this time. May be repeated."),
    "video": typer.Option(help="A clip that wants sound."),
    "audio": typer.Option(help="A sound that wants a picture."),
    "voice": typer.Option(help="A sample of a voice. An experiment."),
    "model": typer.Option("--model", "-m", help="One of the server's."),
    "size": typer.Option(metavar="WxH"),
    "seconds": typer.Option(),
    "steps": typer.Option(help="1 to 200."),
    "seed": typer.Option(),
    "num_clips": typer.Option("--num-clips", "-n"),
    "lora": typer.Option(metavar="NAME[:STRENGTH]", help="One of the server's."),
    "negative_prompt": typer.Option(),
    "priority": typer.Option(help="Lower runs first."),
    "prompts": typer.Option(help="Many clips: a prompt a line, or JSON lines, as of generate."),
    "idempotency_key": typer.Option(help="What was submitted with it before is not made again."),
}


@spread
def submit(
    clip: Annotated[client_jobs.Submission, SUBMISSION],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Wait, and write the clip here (a folder for several).")
    ] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Ask a server for clips; prints their ids, or waits and writes them with -o."""
    ids = client_jobs.submit_all(client_jobs.connect(server, key), clip, output, _warn)
    if output is not None:
        return fetch(ids, output, clip.prompts, server, key)
    typer.echo("\n".join(ids))


def status(ids: Ids, server: Server = None, key: Key = None) -> None:
    """Say how far jobs have got."""
    for line in client_jobs.describe_jobs(map(client_jobs.connect(server, key).video, ids), _warn):
        typer.echo(line)


def wait(ids: Ids, server: Server = None, key: Key = None) -> None:
    """Wait until jobs have ended; exit code 1 when one has not been completed."""
    _wait(ids, server, key)


def fetch(
    ids: Ids,
    output: Annotated[Path, typer.Option("--output", "-o", help="File, or folder for several.")] = Path("."),
    prompts: Annotated[Path | None, typer.Option(help="Their file: clips are called as its lines are.")] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Wait for jobs and write their clips."""
    client_clips.check_output(output, ids, prompts)
    jobs = _wait(ids, server, key)
    for path in client_clips.fetch_clips(client_jobs.connect(server, key), jobs, output, prompts):
        typer.echo(path)


def cancel(ids: Ids, server: Server = None, key: Key = None) -> None:
    """Stop jobs."""
    for line in client_jobs.describe_jobs(map(client_jobs.connect(server, key).cancel, ids), _warn):
        typer.echo(line)


def list_jobs(
    limit: Annotated[int | None, typer.Option(min=1, help="The newest only. [default: all]")] = None,
    status: Annotated[str | None, typer.Option(help="queued, in_progress, completed, failed or cancelled.")] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """List a server's jobs, the newest first."""
    for job in client_jobs.connect(server, key).list(limit, status):
        typer.echo(client_jobs.describe_job(job))


def _warn(text: str) -> None:
    typer.echo(f"warning: {in_flags(text)}", err=True)


def _wait(ids: list[str], server: str | None, key: str | None) -> list[dict[str, Any]]:
    """The jobs once they have ended, with a bar for each."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from phonofilm.cli.terminal import console

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console(error=True)) as bars:
        shown = {video_id: bars.add_task(video_id, total=100) for video_id in ids}

        def show(video_id: str, job: dict[str, Any]) -> None:
            described = f"{video_id} {client_jobs.stage_of(job)}"
            bars.update(shown[video_id], completed=job["progress"], description=described)

        jobs = client_jobs.wait_for_all(client_jobs.connect(server, key), ids, show)
    return client_jobs.completed(jobs, _warn)
