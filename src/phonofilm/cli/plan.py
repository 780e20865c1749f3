"""`phonofilm plan`: what fits this machine and cards of common sizes. Only glue: generation/machine_fit.py, docs/memory.md."""

from __future__ import annotations

from typing import Annotated

import typer

from phonofilm.cli.option_groups import spread
from phonofilm.generation.fit_options import FitOptions

OPTIONS = {
    "model": typer.Option("--model", "-m", help="nano, 360p, 720p or a folder; may be repeated.  [default: all three]"),
    "size": typer.Option(metavar="360p|720p|WxH", help="Frame size.  [default: the model's]"),
    "seconds": typer.Option(help="Length.  [default: the model's]"),
    "steps": typer.Option(min=1, help="Sampling steps.  [default: the model's]"),
    "offload": typer.Option(help="auto, none, model or layer."),
    "vram_limit": typer.Option(metavar="12GB", help="Device memory to plan with; no other cards are shown."),
    "ram_limit": typer.Option(metavar="64GB", help="Host memory to plan with."),
    "tflops": typer.Option(help="The device's peak in bfloat16, instead of the table's."),
    "link": typer.Option(metavar="GB/s", help="From host to device."),
}


@spread
def plan(given: Annotated[FitOptions, OPTIONS]) -> None:
    """Say which models fit here, how their weights would wait, and which card would do. Reads and fetches no weights."""
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.generation.fit_table import ABOUT_FIGURES

    out, report = console(), given.report()
    out.print(cell(f"This machine: {report.machine}"), soft_wrap=True)
    for title, rows in report.tables:
        out.print(table(("", "plan"), [(name, cell(text)) for name, text in rows], title))
    out.print(ABOUT_FIGURES, highlight=False, soft_wrap=True)
    out.print(cell(report.verdicts, "bold"), soft_wrap=True)
