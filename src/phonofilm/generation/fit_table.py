"""The tables of `phonofilm plan`, as rows of text: each model on this machine, on cards of common sizes, and on several GPUs."""

from __future__ import annotations

from collections.abc import Sequence

from phonofilm.errors import InputError
from phonofilm.generation.machine_fit import Machine, Needs, named_card, plan_text, shared
from phonofilm.generation.placement.cards import SIZES
from phonofilm.geometry import parse_frame_size
from phonofilm.models.known import NAMED_SIZES
from phonofilm.runtime.memory_plan import PLANNED_OFFLOADS, Budget, Offload

PLANNED_MODELS = ("nano", "360p", "720p")
SHARED_BY = (2, 4, 8)
LINK = 25e9
"""Bytes per second from host to device, where nothing else is known."""
ABOUT_FIGURES = (
    "Memory is exact for weights (bfloat16), counted for the rest. Times: all FLOPs at the maker's peak, which nothing "
    "reaches: the original's published steps took 1.1 to 2.7 times as long."
)


def parse_offload(word: str) -> Offload | None:
    """None for auto. Raises InputError for a word that no plan is made for."""
    for kind in PLANNED_OFFLOADS:
        if word == kind:
            return kind
    if word != "auto":
        raise InputError(f"offload {word!r} is unknown; use auto, {', '.join(PLANNED_OFFLOADS)}")
    return None


def parse_height_width(size: str) -> tuple[int, int]:
    """Of "360p" or "640x352". Raises InputError for anything else."""
    return NAMED_SIZES[size] if size in NAMED_SIZES else parse_frame_size(size, NAMED_SIZES)


def budgets_to_show(
    machine: Machine, with_cards: bool, ram: int | None, flops: float | None, link: float
) -> list[tuple[str, Budget]]:
    """This machine, if it has a budget, and cards of common sizes, by their names in the table."""
    rows = [] if machine.budget is None else [("this machine", machine.budget)]
    return rows + ([named_card(card, ram, flops, link) for card in SIZES] if with_cards else [])


def fit_rows(
    needs: Needs, machine: Machine, budgets: Sequence[tuple[str, Budget]], offload: Offload | None, several: bool
) -> list[tuple[str, str]]:
    """A model's table; empty for the embedded one without a GPU, which needs no plan. `several`: with rows for several GPUs."""
    if needs.embedded and machine.budget is None:
        return []
    rows = [(name, plan_text(needs, budget, offload)) for name, budget in budgets]
    for devices in SHARED_BY if several and not needs.embedded else ():
        each = shared(needs, devices)
        whole, parts = f"{each.whole / 1e9:.3g} GB", f"{each.in_parts / 1e9:.3g} GB with --shard-weights"
        rows.append((f"{devices} GPUs", f"sharing each clip (--gpus {devices}): at most {whole} on each, or {parts}"))
    return rows
