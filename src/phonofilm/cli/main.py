"""The commands of `phonofilm`, and what errors become. Commands import what they need when they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from phonofilm import __version__
from phonofilm.cli import (
    arena,
    bench,
    data,
    doctor,
    evaluate,
    generate,
    inspect,
    lora,
    models,
    nano,
    plan,
    prompt,
    quantize,
    remote,
    serve,
    studio,
    train,
)
from phonofilm.cli.repository import ELSEWHERE
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.process.interrupts import interrupt_arrived
from phonofilm.process.unexpected import is_unexpected, report_unexpected
from phonofilm.serving.ray_options import with_ray_spelled_out
from phonofilm.untrusted import printable


class Commands(TyperGroup):
    """Turns errors into one line and an exit code: 2 for bad input, 1 for failure, 130 for Ctrl-C."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, with_ray_spelled_out(args))

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except PhonofilmError as error:
            from phonofilm.cli.wording import in_flags

            typer.echo(f"error: {in_flags(printable(str(error)))}", err=True)
            raise typer.Exit(2 if isinstance(error, InputError) else 1) from error
        except KeyboardInterrupt as interrupt:
            interrupt_arrived()
            raise typer.Exit(130) from interrupt
        except Exception as error:
            if not is_unexpected(error):
                raise
            typer.echo(report_unexpected(error, shown=bool(ctx.params.get("traceback"))), err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    help="A clip's picture and sound, generated together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(generate.generate, inspect.inspect, doctor.doctor, plan.plan, prompt.prompt, quantize.quantize),
    *(arena.arena, studio.studio, serve.worker),
)
OF_A_SERVER: tuple[Callable[..., None], ...] = (remote.submit, remote.status, remote.wait, remote.fetch, remote.cancel)
for command in COMMANDS:
    app.command()(command)
app.command(context_settings=ELSEWHERE)(bench.bench)
for command in OF_A_SERVER:
    app.command(rich_help_panel="Clips of a server")(command)
app.command("list", rich_help_panel="Clips of a server")(remote.list_jobs)
GROUPS = {
    "serve": serve,
    "train": train,
    "evaluate": evaluate,
    "models": models,
    "nano": nano,
    "data": data,
    "lora": lora,
}
for name, group in GROUPS.items():
    app.add_typer(group.app, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phonofilm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback", envvar="PHONOFILM_TRACEBACK", help="Print Python's traceback of an unexpected error."
        ),
    ] = False,
) -> None:
    """A clip's picture and sound, generated together."""
