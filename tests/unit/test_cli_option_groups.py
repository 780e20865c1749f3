"""Options that commands share: one definition, the same words, and the library's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from phonofilm.cli.machine_options import ONE_DEVICE, SHARING
from phonofilm.cli.option_groups import spread
from phonofilm.generation.placement.hardware import HardwareOptions


@dataclass(frozen=True)
class Place:
    folder: Path = Path("here")
    deep: bool = False
    unsaid: int = 3


SomePlace = Annotated[Place, {"folder": typer.Option("--folder", "-f"), "deep": typer.Option("--deep")}]


def test_a_group_becomes_options_and_comes_back_as_one_value() -> None:
    app = typer.Typer()
    seen: list[object] = []

    @app.command()
    @spread
    def command(name: str, *, place: SomePlace, count: int = 1) -> None:
        """About it."""
        seen.append((name, place, count))

    assert CliRunner().invoke(app, ["a"]).exit_code == 0
    assert CliRunner().invoke(app, ["b", "-f", "there", "--deep", "--count", "2"]).exit_code == 0
    assert seen == [("a", Place(), 1), ("b", Place(Path("there"), True), 2)]
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "About it." in shown
    assert "--folder" in shown
    assert "place" not in shown
    assert "unsaid" not in shown


def test_the_flags_about_hardware_are_all_those_of_the_library() -> None:
    assert {*ONE_DEVICE, *SHARING} == set(vars(HardwareOptions()))
