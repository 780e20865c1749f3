"""The commands of `phonofilm`, and what errors become. Commands import what they need when they run."""

from __future__ import annotations

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
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.process.interrupts import interrupt_arrived
from phonofilm.process.unexpected import is_unexpected, report_unexpected
from phonofilm.untrusted import printable


class Commands(TyperGroup):
    """Turns errors into one line and an exit code: 2 for bad input, 1 for failure, 130 for Ctrl-C."""

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
app.command()(generate.generate)
app.command()(inspect.inspect)
app.command()(doctor.doctor)
app.command()(plan.plan)
app.command()(prompt.prompt)
app.command()(quantize.quantize)
app.command()(bench.bench)
app.command()(arena.arena)
app.command()(studio.studio)
app.command()(serve.worker)
for command in (remote.submit, remote.status, remote.wait, remote.fetch, remote.cancel):
    app.command(rich_help_panel="Clips of a server")(command)
app.command("list", rich_help_panel="Clips of a server")(remote.list_jobs)
app.add_typer(serve.app, name="serve")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")
app.add_typer(nano.app, name="nano")
app.add_typer(data.app, name="data")
app.add_typer(lora.app, name="lora")


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
