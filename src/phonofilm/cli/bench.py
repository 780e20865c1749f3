"""`phonofilm bench`: one guided step on this machine, where the repository's benchmarks are there. Only glue."""

from __future__ import annotations

import typer

from phonofilm.cli.repository import Repository


def bench(context: typer.Context) -> None:
    """Time a guided step: resident, streamed, in fp8, fused, compiled, and offloaded by diffusers, on random weights."""
    Repository("benchmarks.command_line", "the benchmarks are", "pip install -e .").run(context)
