"""`phonofilm studio`: a server on this machine alone, a worker, and the page in the browser. Only glue; see docs/studio.md."""

from __future__ import annotations

from typing import Annotated

import typer

from phonofilm.cli.machine_options import OneDevice
from phonofilm.cli.option_groups import spread
from phonofilm.cli.serving_options import Imports, Keep, OwnWork, Runs
from phonofilm.errors import InputError
from phonofilm.serving.settings import existing_folders
from phonofilm.serving.work_options import require_serve_extra, worker_settings
from phonofilm.units import parse_size


@spread
def studio(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="[default: 8000, or a free one if that is taken]")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    keep: Keep = "forever",
    disk_quota: Annotated[str | None, typer.Option(metavar="100GB", help="For all clips and uploads.")] = None,
    runs: Runs = None,
    imports: Imports = None,
    *,
    work: OwnWork,
    machine: OneDevice,
) -> None:
    """Make, look at and compare clips on a page in the browser. Everything stays on this machine.

    \b
    phonofilm studio --model nano --model 360p
    """
    require_serve_extra()
    from phonofilm.serving.api.services import ApiSettings
    from phonofilm.serving.jobs.job_queue import Room
    from phonofilm.serving.server import ServerSettings, serve_until_stopped
    from phonofilm.serving.studio.browser import choose_port, open_browser
    from phonofilm.serving.studio.page import NOT_BUILT, is_built

    if not is_built():
        raise InputError(NOT_BUILT)
    worker = worker_settings(work, machine, keep)
    api = ApiSettings(
        room=Room(max_bytes=None if disk_quota is None else parse_size(disk_quota, "disk_quota")),
        imports=existing_folders("import", imports),
        runs=existing_folders("runs", runs),
        command="phonofilm studio",
    )
    settings = ServerSettings(worker, port=choose_port(port), api=api, plans_soon=True)

    def show(address: str) -> None:
        typer.echo(f"the studio is at {address}/studio (Ctrl-C ends it; clips that are being made go on next time)")
        if open_page:
            open_browser(f"{address}/studio")

    raise typer.Exit(serve_until_stopped(settings, show))
