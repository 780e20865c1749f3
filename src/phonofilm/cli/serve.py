"""`phonofilm serve`, `phonofilm serve keys` and `phonofilm worker`. Only glue; docs/serving.md explains them."""

from __future__ import annotations

from typing import Annotated

import typer

from phonofilm.cli.machine_options import OnRay, SeveralDevices
from phonofilm.cli.option_groups import spread
from phonofilm.cli.serving_options import DatabaseUrl, Imports, Keep, Runs, Work
from phonofilm.serving.settings import DEFAULT_DATABASE, existing_folders
from phonofilm.serving.work_options import require_serve_extra, worker_settings
from phonofilm.units import parse_size

app = typer.Typer(invoke_without_command=True, help="Make clips for others over HTTP.")
keys = typer.Typer(no_args_is_help=True, help="Keys that clients show.")
app.add_typer(keys, name="keys")
Name = Annotated[str, typer.Argument(help="What the key is called here.")]


@app.callback()
@spread
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0 where phonofilm worker runs.")] = 1,
    keep: Keep = "7d",
    disk_quota: Annotated[str | None, typer.Option(metavar="100GB", help="For all clips and uploads.")] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait.")] = 1000,
    allow_callbacks: Annotated[bool, typer.Option("--allow-callbacks", help="Take callback_url; signed.")] = False,
    runs: Runs = None,
    imports: Imports = None,
    *,
    work: Work,
    machine: SeveralDevices,
    shared: OnRay,
) -> None:
    """Serve clips over HTTP, in the dialect of OpenAI's videos API.

    \b
    phonofilm serve --model 360p
    curl -F prompt="A red ball bounces." http://127.0.0.1:8000/v1/videos
    """
    if context.invoked_subcommand is not None:
        return
    require_serve_extra()
    from phonofilm.serving.api.services import ApiSettings
    from phonofilm.serving.jobs.job_queue import Room
    from phonofilm.serving.server import ServerSettings, serve_until_stopped

    settings = worker_settings(work, machine, keep)
    api = ApiSettings(
        Room(max_queue, None if disk_quota is None else parse_size(disk_quota, "disk_quota")),
        allow_callbacks,
        imports=existing_folders("import", imports),
        runs=existing_folders("runs", runs),
    )
    cluster = shared.cluster_of_server()
    raise typer.Exit(serve_until_stopped(ServerSettings(settings, host, port, workers, api, cluster=cluster)))


@spread
def worker(work: Work, machine: SeveralDevices, keep: Keep = "7d") -> None:
    """Make the clips of a server's queue; on as many machines as reach its database and store."""
    require_serve_extra()
    from phonofilm.serving.worker.process import work_alone

    raise typer.Exit(work_alone(worker_settings(work, machine, keep)))


@keys.command("create")
def create(
    name: Name,
    scopes: Annotated[str, typer.Option(help="Of read, write, admin.")] = "read,write",
    max_queued: Annotated[int | None, typer.Option(min=1, help="Jobs that may wait.")] = None,
    max_running: Annotated[int | None, typer.Option(min=1, help="Jobs that may run at once.")] = None,
    disk_quota: Annotated[str | None, typer.Option(metavar="10GB", help="For its clips and uploads.")] = None,
    best_priority: Annotated[int, typer.Option(help="The lowest that it may ask for; lower runs first.")] = 0,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key and print it: once, since only its hash is kept."""
    require_serve_extra()
    from phonofilm.serving.database.migrate import open_migrated
    from phonofilm.serving.security.api_keys import KeyLimits, create_key

    database = open_migrated(database_url or DEFAULT_DATABASE)
    quota = None if disk_quota is None else parse_size(disk_quota, "disk_quota")
    typer.echo(create_key(database, name, scopes.split(","), KeyLimits(max_queued, max_running, quota, best_priority)))


@keys.command("list")
def list_all(database_url: DatabaseUrl = None) -> None:
    """Show the keys' names, scopes and limits."""
    require_serve_extra()
    from phonofilm.serving.database.migrate import open_migrated
    from phonofilm.serving.security.api_keys import describe_key, list_keys

    for row in list_keys(open_migrated(database_url or DEFAULT_DATABASE)):
        typer.echo(describe_key(row))


@keys.command("revoke")
def revoke(name: Name, database_url: DatabaseUrl = None) -> None:
    """Let a key in no longer."""
    require_serve_extra()
    from phonofilm.serving.database.migrate import open_migrated
    from phonofilm.serving.security.api_keys import revoke_key

    revoke_key(open_migrated(database_url or DEFAULT_DATABASE), name)
