"""`phonofilm submit|status|wait|fetch|cancel|list`: clips of a server. Only glue; docs/serving.md explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phonofilm.errors import InputError, PhonofilmError

Server = Annotated[
    str | None, typer.Option(envvar="PHONOFILM_SERVER", help="The server. [default: http://127.0.0.1:8000]")
]
Key = Annotated[str | None, typer.Option("--key", envvar="PHONOFILM_API_KEY", help="The key, if it wants one.")]
Ids = Annotated[list[str], typer.Argument(help="Jobs, as submit prints them.")]


def submit(
    prompt: Annotated[str | None, typer.Argument(help="What is seen and heard.")] = None,
    image: Annotated[Path | None, typer.Option("--image", "-i", help="First frame.")] = None,
    last_image: Annotated[Path | None, typer.Option(help="Last frame.")] = None,
    keyframe: Annotated[
        list[str] | None, typer.Option(metavar="SECONDS=FILE", help="A picture at this time. May be repeated.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="A clip that wants sound.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A sound that wants a picture.")] = None,
    voice: Annotated[Path | None, typer.Option(help="A sample of a voice. An experiment.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="One of the server's.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH")] = None,
    seconds: Annotated[float | None, typer.Option()] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    num_clips: Annotated[int | None, typer.Option("--num-clips", "-n")] = None,
    lora: Annotated[list[str] | None, typer.Option(metavar="NAME[:STRENGTH]", help="One of the server's.")] = None,
    negative_prompt: Annotated[str | None, typer.Option()] = None,
    priority: Annotated[int | None, typer.Option(help="Lower runs first.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Many clips: a prompt a line.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Wait, and write the clip here (a folder for several).")
    ] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Ask a server for clips; prints their ids, or waits and writes them with -o."""
    from phonofilm.generation.options import parse_keyframe
    from phonofilm.serving.client import client_from

    client = client_from(server, key)
    lines = [prompt] if prompts is None else prompts.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if line and line.strip()]
    if not texts or (prompt is not None and prompts is not None):
        raise InputError("give a prompt, or a file of them with --prompts")
    options = {
        "model": model, "size": size, "seconds": seconds, "num_inference_steps": steps, "seed": seed, "n": num_clips,
        "loras": lora, "negative_prompt": negative_prompt, "priority": priority,
    }  # fmt: skip
    fields = {name: value for name, value in options.items() if value is not None}
    named = {"input_reference": image, "last_frame": last_image, "video": video, "audio": audio, "voice": voice}
    files = {name: path for name, path in named.items() if path is not None}
    files |= {f"keyframes[{seconds:g}]": path for seconds, path in map(parse_keyframe, keyframe or ())}
    ids = [client.submit({"prompt": text, **fields}, files)["id"] for text in texts]
    if output is None:
        for video_id in ids:
            typer.echo(video_id)
        return
    fetch(ids, output, server, key)


def status(ids: Ids, server: Server = None, key: Key = None) -> None:
    """Say how far jobs are."""
    from phonofilm.serving.client import client_from

    client = client_from(server, key)
    for video_id in ids:
        _print_job(client.video(video_id))


def wait(ids: Ids, server: Server = None, key: Key = None) -> None:
    """Wait until jobs have ended; exit code 1 when one has not been completed."""
    _wait(ids, server, key)


def fetch(
    ids: Ids,
    output: Annotated[Path, typer.Option("--output", "-o", help="File, or folder for several.")] = Path("."),
    server: Server = None,
    key: Key = None,
) -> None:
    """Wait for jobs and write their clips."""
    from phonofilm.serving.client import client_from

    client = client_from(server, key)
    for job in _wait(ids, server, key):
        for index in range(job["num_outputs"]):
            alone = len(ids) == 1 and job["num_outputs"] == 1 and output.suffix == ".mp4"
            name = f"{job['id']}{f'-{index}' if index else ''}.mp4"
            typer.echo(client.fetch(job["id"], output if alone else output / name, index))


def cancel(ids: Ids, server: Server = None, key: Key = None) -> None:
    """Stop jobs."""
    from phonofilm.serving.client import client_from

    client = client_from(server, key)
    for video_id in ids:
        _print_job(client.cancel(video_id))


def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    status: Annotated[str | None, typer.Option(help="queued, in_progress, completed, failed or cancelled.")] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """List a server's newest jobs."""
    from phonofilm.serving.client import client_from

    for job in client_from(server, key).list(limit, status):
        _print_job(job)


def _wait(ids: list[str], server: str | None, key: str | None) -> list[dict[str, Any]]:
    """The jobs once they have ended, with a bar for each. Raises PhonofilmError when one was not completed."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from phonofilm.serving.client import client_from

    client = client_from(server, key)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    jobs = []
    with Progress(*columns, console=Console(stderr=True)) as bars:
        for video_id in ids:
            bar = bars.add_task(video_id, total=100)
            show = lambda job, bar=bar: bars.update(  # noqa: E731
                bar, completed=job["progress"], description=f"{job['id']} {job['stage'] or job['status']}"
            )
            jobs.append(client.wait(video_id, show))
    failures = [f"{job['id']} {job['status']}{_reason(job)}" for job in jobs if job["status"] != "completed"]
    if failures:
        raise PhonofilmError("\n  ".join(failures))
    return jobs


def _print_job(job: dict[str, Any]) -> None:
    from phonofilm.untrusted import printable

    prompt = printable(job["prompt"] or "").replace("\n", " ")
    typer.echo(f"{job['id']} {job['status']} {job['progress']} %{_reason(job)} {prompt[:60]}")


def _reason(job: dict[str, Any]) -> str:
    from phonofilm.untrusted import printable

    return f": {printable(job['error']['message'])}" if job["error"] else ""
