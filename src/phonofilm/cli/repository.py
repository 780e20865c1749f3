"""Commands whose options and work only the repository has: its benchmarks, and the recipe of the embedded model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import typer

from phonofilm.errors import InputError

# What stands behind such a command's name is read by the repository's command of that name, --help too.
ELSEWHERE = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@dataclass(frozen=True)
class Repository:
    """The repository's `module`, which has a Typer `app`; `what` it is, and how one installs it."""

    module: str
    what: str
    install: str

    def run(self, context: typer.Context) -> None:
        """The command of the same name. Raises InputError where the package was installed without the repository."""
        root, file = Path(__file__).resolve().parents[3], f"{self.module.replace('.', '/')}.py"
        if not (root / file).is_file():
            raise InputError(
                f"{self.what} not part of the installed package; clone the repository "
                f"(https://github.com/phonofilm/phonofilm), which has {file}, and install from there: {self.install}"
            )
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        group = typer.main.get_group(import_module(self.module).app)
        command = group.commands[context.info_name or ""]
        with command.make_context(context.info_name, context.args, parent=context.parent) as own:
            command.invoke(own)
