"""`phonofilm plan`: what fits this machine and cards of common sizes. Only glue: generation/machine_fit.py, docs/memory.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.runtime.memory_plan import Offload

MODELS = ("nano", "360p", "720p")
SHARED_BY = (2, 4, 8)


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
    from rich.console import Console
    from rich.table import Table

    from phonofilm.cli.terminal import cell
    from phonofilm.generation import machine_fit
    from phonofilm.generation.placement.cards import SIZES
    from phonofilm.units import GIGA, parse_size

    for name, value in (("--seconds", seconds), ("--tflops", tflops), ("--link", link)):
        if value is not None and value <= 0:
            raise InputError(f"{name} is {value:g}; expected a number above 0")
    kind, picture = _offload(offload), None if size is None else _height_width(size)
    vram, ram = (
        None if text is None else parse_size(text, option, bare=GIGA)
        for option, text in (("--vram-limit", vram_limit), ("--ram-limit", ram_limit))
    )
    flops = None if tflops is None else tflops * 1e12
    needs = [machine_fit.needs_of(name, picture, seconds, steps) for name in model or MODELS]
    machine = machine_fit.this_machine(vram, ram, flops, link * 1e9)
    console = Console()
    console.print(cell(f"This machine: {machine.description}"), soft_wrap=True)
    rows = [] if machine.budget is None else [("this machine", machine.budget)]
    if vram is None:
        rows += [machine_fit.named_card(card, ram, flops, link * 1e9) for card in SIZES]
    for one in needs:
        if one.embedded and machine.budget is None:
            continue
        table = Table("", "plan", title=cell(one.title))
        for name, budget in rows:
            table.add_row(name, cell(machine_fit.plan_text(one, budget, kind)))
        for devices in SHARED_BY if vram is None and not one.embedded else ():
            each = machine_fit.shared(one, devices)
            whole, parts = f"{each.whole / 1e9:.3g} GB", f"{each.in_parts / 1e9:.3g} GB with --shard-weights"
            table.add_row(
                f"{devices} GPUs", f"sharing each clip (--gpus {devices}): at most {whole} on each, or {parts}"
            )
        console.print(table)
    console.print(
        "Memory is exact for weights (bfloat16), counted for the rest. Times: all FLOPs at the maker's peak, which nothing "
        "reaches: the original's published steps took 1.1 to 2.7 times as long.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(cell(machine_fit.verdicts(needs, machine), "bold"), soft_wrap=True)


def _offload(word: str) -> Offload | None:
    from phonofilm.runtime.memory_plan import PLANNED_OFFLOADS

    for kind in PLANNED_OFFLOADS:
        if word == kind:
            return kind
    if word != "auto":
        raise InputError(f"offload {word!r} is unknown; use auto, {', '.join(PLANNED_OFFLOADS)}")
    return None


def _height_width(size: str) -> tuple[int, int]:
    from phonofilm.generation.checkpoint import NAMED_SIZES

    if size in NAMED_SIZES:
        return NAMED_SIZES[size]
    try:
        width, height = (int(side) for side in size.lower().split("x"))
    except ValueError:
        raise InputError(
            f"size {size!r} is not WIDTHxHEIGHT; use for example 640x352, {', '.join(NAMED_SIZES)}"
        ) from None
    return height, width
