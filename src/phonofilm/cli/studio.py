"""`phonofilm studio`: a server on this machine alone, a worker, and the page in the browser. Only glue; see docs/studio.md."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from phonofilm.cli.machine_options import OneDevice
from phonofilm.cli.option_groups import spread
from phonofilm.cli.serve import folders, require_serve_extra
from phonofilm.cli.serving_options import Imports, Keep, OwnWork, Runs, settings_of
from phonofilm.errors import InputError

DEFAULT_PORT = 8000


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
    phonofilm studio
    phonofilm studio --model nano --model 360p
    """
    require_serve_extra()
    from phonofilm.serving.api.services import ApiSettings
    from phonofilm.serving.jobs.book import Room
    from phonofilm.serving.server import ServerSettings, is_free, serve_until_stopped
    from phonofilm.serving.studio.page import NOT_BUILT, is_built
    from phonofilm.units import parse_size

    if not is_built():
        raise InputError(NOT_BUILT)
    worker = settings_of(work, machine, keep)
    api = ApiSettings(
        room=Room(max_bytes=None if disk_quota is None else parse_size(disk_quota, "disk_quota")),
        imports=folders("import", imports),
        runs=folders("runs", runs),
    )
    settings = ServerSettings(worker, port=_port(port, is_free), api=api, plans_soon=True)

    def show(address: str) -> None:
        typer.echo(f"the studio is at {address}/studio (Ctrl-C ends it; clips that are being made go on next time)")
        if open_page:
            _open_browser(f"{address}/studio")

    raise typer.Exit(serve_until_stopped(settings, show))


def _port(wanted: int | None, is_free: Callable[[int], bool]) -> int:
    if wanted is not None:
        return wanted
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else 0


def _open_browser(address: str) -> None:
    """Open the page where there is a screen; a browser in the terminal would take it away from the log."""
    import webbrowser

    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if has_screen:
        webbrowser.open(address)
