"""A group of commands whose `run` is meant where none is named."""

from __future__ import annotations

import typer
from typer.core import TyperGroup


class RunByDefault(TyperGroup):
    """`phonofilm train -o RUN ...` is `phonofilm train run -o RUN ...`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)
