"""`phonofilm doctor`: versions, devices, attention backends, codecs, and the health of a checkpoint. Only looks."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Also examine this checkpoint: a folder, a hub id, nano, 360p or 720p."),
    ] = None,
) -> None:
    """What this machine and this installation can do. Exit code 1 when something that is needed is broken."""
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.errors import PhonofilmError
    from phonofilm.generation import fit_table, installation, machine_fit

    out, codecs = console(), installation.codec_rows()
    versions = [(name, version or "[dim]not installed[/dim]") for name, version in installation.package_versions()]
    states = [(state, ", ".join(names)) for state, names in installation.attention_states().items()]
    marked = [(name, use, "[green]ok[/green]" if there else "[red]missing[/red]") for name, use, there in codecs]
    out.print(
        table((), versions, "versions"),
        table((), installation.device_rows(), "devices"),
        table((), states, "attention backends (--attn-backend)"),
        table((), marked, "codecs"),
    )
    if not all(there for _, _, there in codecs):
        raise PhonofilmError(
            "a codec is missing, so clips cannot be written; reinstall av: pip install --force-reinstall av"
        )
    verdicts = machine_fit.verdicts_here(fit_table.PLANNED_MODELS, fit_table.LINK)
    out.print(cell(verdicts, "bold"), soft_wrap=True)
    if model is not None:
        from phonofilm.cli.models import print_findings
        from phonofilm.models.health import health, is_loadable
        from phonofilm.models.hub import local_checkpoint

        folder = local_checkpoint(model)
        findings = health(folder)
        print_findings(folder, findings)
        if not is_loadable(findings):
            raise typer.Exit(1)
