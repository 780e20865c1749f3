"""Which models and clips are to be planned for which machine, as it was given to `phonofilm plan`."""

from __future__ import annotations

from dataclasses import dataclass

from phonofilm.errors import InputError
from phonofilm.units import GIGA, parse_size


@dataclass(frozen=True)
class FitReport:
    """What `phonofilm plan` says: the machine, a table for each model (title, then a name and a plan a row), the verdicts."""

    machine: str
    tables: tuple[tuple[str, list[tuple[str, str]]], ...]
    verdicts: str


@dataclass(frozen=True)
class FitOptions:
    """Options by their names on the command line. tflops: in bfloat16. link: GB/s from host to device."""

    model: tuple[str, ...] | None = None
    size: str | None = None
    seconds: float | None = None
    steps: int | None = None
    offload: str = "auto"
    vram_limit: str | None = None
    ram_limit: str | None = None
    tflops: float | None = None
    link: float = 25.0

    def report(self) -> FitReport:
        """What fits where. Raises InputError for a value that cannot be read, CheckpointError for a model that is not here."""
        from phonofilm.generation import fit_table, machine_fit

        for name, value in (("--seconds", self.seconds), ("--tflops", self.tflops), ("--link", self.link)):
            if value is not None and value <= 0:
                raise InputError(f"{name} is {value:g}; expected a number above 0")
        kind = fit_table.parse_offload(self.offload)
        size = None if self.size is None else fit_table.parse_height_width(self.size)
        vram, ram = (
            None if text is None else parse_size(text, option, bare=GIGA)
            for option, text in (("--vram-limit", self.vram_limit), ("--ram-limit", self.ram_limit))
        )
        flops, link = None if self.tflops is None else self.tflops * 1e12, self.link * 1e9
        names = self.model or fit_table.PLANNED_MODELS
        needs = [machine_fit.needs_of(name, size, self.seconds, self.steps) for name in names]
        machine = machine_fit.this_machine(vram, ram, flops, link)
        budgets = fit_table.budgets_to_show(machine, vram is None, ram, flops, link)
        rows = [(one.title, fit_table.fit_rows(one, machine, budgets, kind, several=vram is None)) for one in needs]
        tables = tuple((title, found) for title, found in rows if found)
        return FitReport(machine.description, tables, machine_fit.verdicts(needs, machine))
