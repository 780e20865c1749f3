"""`phonofilm plan`: what fits this machine and cards of common sizes. Only glue: generation/machine_fit.py, docs/memory.md."""

from __future__ import annotations

from typing import Annotated

import typer

from phonofilm.errors import InputError


def plan(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="nano, 360p, 720p or a folder; may be repeated.  [default: all three]"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="360p|720p|WxH", help="Frame size.  [default: the model's]")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length.  [default: the model's]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.  [default: the model's]")] = None,
    offload: Annotated[str, typer.Option(help="auto, none, model or layer.")] = "auto",
    vram_limit: Annotated[
        str | None, typer.Option(metavar="12GB", help="Device memory to plan with; no other cards are shown.")
    ] = None,
    ram_limit: Annotated[str | None, typer.Option(metavar="64GB", help="Host memory to plan with.")] = None,
    tflops: Annotated[float | None, typer.Option(help="The device's peak in bfloat16, instead of the table's.")] = None,
    link: Annotated[float, typer.Option(metavar="GB/s", help="From host to device.")] = 25.0,
) -> None:
    """Say which models fit here, how their weights would wait, and which card would do. Reads and fetches no weights."""
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.generation import fit_table, machine_fit
    from phonofilm.units import GIGA, parse_size

    for name, value in (("--seconds", seconds), ("--tflops", tflops), ("--link", link)):
        if value is not None and value <= 0:
            raise InputError(f"{name} is {value:g}; expected a number above 0")
    kind, picture = fit_table.parse_offload(offload), None if size is None else fit_table.parse_height_width(size)
    vram, ram = (
        None if text is None else parse_size(text, option, bare=GIGA)
        for option, text in (("--vram-limit", vram_limit), ("--ram-limit", ram_limit))
    )
    flops = None if tflops is None else tflops * 1e12
    needs = [machine_fit.needs_of(name, picture, seconds, steps) for name in model or fit_table.PLANNED_MODELS]
    machine = machine_fit.this_machine(vram, ram, flops, link * 1e9)
    out = console()
    out.print(cell(f"This machine: {machine.description}"), soft_wrap=True)
    budgets = fit_table.budgets_to_show(machine, vram is None, ram, flops, link * 1e9)
    for one in needs:
        if rows := fit_table.fit_rows(one, machine, budgets, kind, several=vram is None):
            out.print(table(("", "plan"), [(name, cell(text)) for name, text in rows], one.title))
    out.print(fit_table.ABOUT_FIGURES, highlight=False, soft_wrap=True)
    out.print(cell(machine_fit.verdicts(needs, machine), "bold"), soft_wrap=True)
