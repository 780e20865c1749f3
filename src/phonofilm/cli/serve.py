"""`phonofilm serve`, `phonofilm serve keys` and `phonofilm worker`. Only glue; docs/serving.md explains them."""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from phonofilm.cli import machine_options as given
from phonofilm.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from phonofilm.serving.database.engines import Database


class ServeCommands(TyperGroup):
    """Lets --ray stand alone, which Typer has no words for."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        spelled = [
            f"{word}=local" if word == "--ray" and (after is None or after.startswith("-")) else word
            for word, after in zip_longest(args, args[1:])
            if word is not None
        ]
        return super().parse_args(ctx, spelled)


app = typer.Typer(cls=ServeCommands, invoke_without_command=True, help="Make clips for others over HTTP.")
keys = typer.Typer(no_args_is_help=True, help="Keys that clients show.")
app.add_typer(keys, name="keys")
Name = Annotated[str, typer.Argument(help="What the key is called here.")]


@app.callback()
def serve(
    context: typer.Context,
    model: given.Models = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0 where phonofilm worker runs.")] = 1,
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help="Ray places them; bare: here.")] = None,
    replicas: Annotated[str | None, typer.Option(metavar="N|MIN:MAX", help="Workers on Ray. [default: 1]")] = None,
    database_url: given.DatabaseUrl = None,
    store: given.StorePlace = None,
    lora: given.Loras = None,
    loaded_models: given.LoadedModels = 1,
    keep: given.Keep = "7d",
    disk_quota: Annotated[str | None, typer.Option(metavar="100GB", help="For all clips and uploads.")] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait.")] = 1000,
    max_seconds: Annotated[float, typer.Option(help="Longest clip that may be asked for.")] = 60.0,
    max_upload: Annotated[str, typer.Option(metavar="256MB", help="Largest request.")] = "256MB",
    allow_urls: given.AllowUrls = False,
    allow_callbacks: Annotated[bool, typer.Option("--allow-callbacks", help="Take callback_url; signed.")] = False,
    log_format: given.LogFormat = "text",
    writing_endpoint: given.WritingEndpointUrl = None,
    writing_model: given.WritingModel = None,
    engine: given.Engine = None,
    engine_url: given.EngineUrl = None,
    runs: given.Runs = None,
    imports: given.Imports = None,
    device: given.Device = "auto",
    dtype: given.Dtype = None,
    offload: given.Offload = "auto",
    offload_to_disk: given.OffloadToDisk = None,
    vram_limit: given.VramLimit = None,
    ram_limit: given.RamLimit = None,
    quantize: given.Quantize = None,
    attn_backend: given.AttnBackend = None,
    compile_layers: given.Compile = False,
) -> None:
    """Serve clips over HTTP, in the dialect of OpenAI's videos API.

    \b
    phonofilm serve --model 360p
    curl -F prompt="A red ball bounces." http://127.0.0.1:8000/v1/videos
    """
    if context.invoked_subcommand is not None:
        return
    require_serve_extra()
    from phonofilm.generation.placement.hardware import HardwareOptions
    from phonofilm.serving.api.services import ApiSettings
    from phonofilm.serving.cluster.ray_cluster import ClusterSettings
    from phonofilm.serving.cluster.replicas import parse_replicas
    from phonofilm.serving.jobs.book import Room
    from phonofilm.serving.server import ServerSettings, serve_until_stopped
    from phonofilm.serving.settings import RequestLimits, worker_settings
    from phonofilm.units import parse_size
    from phonofilm.writing.writing_endpoint import writing_endpoint as endpoint_of

    machine = HardwareOptions(
        device, dtype, offload, offload_to_disk, vram_limit, ram_limit,
        attn_backend=attn_backend, quantize=quantize, compile=compile_layers,
    )  # fmt: skip
    upload = parse_size(max_upload, "max_upload")
    worker = worker_settings(
        model, lora, database_url, store, machine,
        keep=seconds_kept(keep), loaded_models=loaded_models, allow_urls=allow_urls, max_upload=upload, log_format=log_format,
        writing=endpoint_of(writing_endpoint, writing_model), engine=engine, engine_url=engine_url,
    )  # fmt: skip
    api = ApiSettings(
        RequestLimits(max_seconds=max_seconds, max_upload_bytes=upload),
        Room(max_queue, None if disk_quota is None else parse_size(disk_quota, "disk_quota")),
        allow_callbacks,
        imports=folders("import", imports),
        runs=folders("runs", runs),
    )
    if replicas is not None and ray is None:
        raise InputError("--replicas is for workers on Ray; add --ray, or use --workers")
    cluster = None if ray is None else ClusterSettings(ray, parse_replicas(replicas or "1"))
    raise typer.Exit(serve_until_stopped(ServerSettings(worker, host, port, workers, api, cluster=cluster)))


def worker(
    model: given.Models = None,
    database_url: given.DatabaseUrl = None,
    store: given.StorePlace = None,
    lora: given.Loras = None,
    loaded_models: given.LoadedModels = 1,
    keep: given.Keep = "7d",
    allow_urls: given.AllowUrls = False,
    log_format: given.LogFormat = "text",
    writing_endpoint: given.WritingEndpointUrl = None,
    writing_model: given.WritingModel = None,
    engine: given.Engine = None,
    engine_url: given.EngineUrl = None,
    device: given.Device = "auto",
    dtype: given.Dtype = None,
    offload: given.Offload = "auto",
    offload_to_disk: given.OffloadToDisk = None,
    vram_limit: given.VramLimit = None,
    ram_limit: given.RamLimit = None,
    quantize: given.Quantize = None,
    attn_backend: given.AttnBackend = None,
    compile_layers: given.Compile = False,
) -> None:
    """Make the clips of a server's queue; on as many machines as reach its database and store."""
    require_serve_extra()
    from phonofilm.generation.placement.hardware import HardwareOptions
    from phonofilm.serving.settings import RequestLimits, worker_settings
    from phonofilm.serving.worker.process import work_alone
    from phonofilm.writing.writing_endpoint import writing_endpoint as endpoint_of

    machine = HardwareOptions(
        device, dtype, offload, offload_to_disk, vram_limit, ram_limit,
        attn_backend=attn_backend, quantize=quantize, compile=compile_layers,
    )  # fmt: skip
    settings = worker_settings(
        model, lora, database_url, store, machine,
        keep=seconds_kept(keep), loaded_models=loaded_models, allow_urls=allow_urls,
        max_upload=RequestLimits.max_upload_bytes, log_format=log_format,
        writing=endpoint_of(writing_endpoint, writing_model), engine=engine, engine_url=engine_url,
    )  # fmt: skip
    raise typer.Exit(work_alone(settings))


@keys.command("create")
def create(
    name: Name,
    scopes: Annotated[str, typer.Option(help="Of read, write, admin.")] = "read,write",
    max_queued: Annotated[int | None, typer.Option(min=1, help="Jobs that may wait.")] = None,
    max_running: Annotated[int | None, typer.Option(min=1, help="Jobs that may run at once.")] = None,
    disk_quota: Annotated[str | None, typer.Option(metavar="10GB", help="For its clips and uploads.")] = None,
    best_priority: Annotated[int, typer.Option(help="The lowest that it may ask for; lower runs first.")] = 0,
    database_url: given.DatabaseUrl = None,
) -> None:
    """Make a key and print it: once, since only its hash is kept."""
    from phonofilm.units import parse_size

    database = _database(database_url)
    from phonofilm.serving.security.keys import KeyLimits, create_key

    quota = None if disk_quota is None else parse_size(disk_quota, "disk_quota")
    typer.echo(create_key(database, name, scopes.split(","), KeyLimits(max_queued, max_running, quota, best_priority)))


@keys.command("list")
def list_all(database_url: given.DatabaseUrl = None) -> None:
    """Show the keys' names, scopes and limits."""
    database = _database(database_url)
    from phonofilm.serving.security.keys import list_keys

    for row in list_keys(database):
        state = "revoked" if row["revoked_at"] else "valid"
        limits = [f"{name}={row[name]}" for name in ("max_queued", "max_running", "max_bytes") if row[name]]
        typer.echo(" ".join([row["name"], f"{row['hint']}...", ",".join(row["scopes"]), state, *limits]))


@keys.command("revoke")
def revoke(name: Name, database_url: given.DatabaseUrl = None) -> None:
    """Let a key in no longer."""
    database = _database(database_url)
    from phonofilm.serving.security.keys import revoke_key

    revoke_key(database, name)


def _database(url: str | None) -> Database:
    require_serve_extra()
    from phonofilm.serving.database.engines import open_database
    from phonofilm.serving.database.migrate import migrate
    from phonofilm.serving.settings import DEFAULT_DATABASE

    database = open_database(url or DEFAULT_DATABASE)
    migrate(database)
    return database


def require_serve_extra() -> None:
    """Raises MissingExtraError for the first package of the extra `serve` that is not installed."""
    from importlib.util import find_spec

    for package in ("fastapi", "uvicorn", "sqlalchemy", "alembic", "multipart", "sse_starlette", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")


def folders(option: str, given_ones: list[Path] | None) -> tuple[Path, ...]:
    """Folders that an option names. Raises InputError for one that is not there."""
    for one in given_ones or ():
        if not one.is_dir():
            raise InputError(f"--{option} {one} is no folder; name one that is there")
    return tuple(one.absolute() for one in given_ones or ())


def seconds_kept(text: str) -> float | None:
    """The value of --keep in seconds; None for ever. Raises InputError."""
    if text == "forever":
        return None
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise InputError(f"--keep {text!r} is no span of time; use for example 12h, 7d or forever")
    return int(match[1]) * {"m": 60.0, "h": 3600.0, "d": 86_400.0}[match[2]]
