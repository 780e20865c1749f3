"""The map of the code in CONTRIBUTING.md names the folders there are, and the index of the documentation names its pages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "phonofilm"


def test_the_map_is_the_real_one() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^  (\w+)/ ", page, flags=re.MULTILINE)
    packages = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert set(named) == packages
    assert len(named) == len(packages)


def test_the_way_of_the_data_is_told_in_names_of_the_code() -> None:
    page = (ROOT / "docs" / "data-flow.md").read_text(encoding="utf-8")
    rooms = {file.stem: file for file in [*(PACKAGE / "pipeline").glob("*.py"), PACKAGE / "geometry.py"]}
    named = [(room, name) for room, name in re.findall(r"\b(\w+)\.(\w+)", page) if room in rooms and name != "py"]
    assert len(named) > 8
    for room, name in named:
        assert re.search(rf"^(def|class) {name}\b", rooms[room].read_text(encoding="utf-8"), re.MULTILINE), (room, name)


def test_the_index_names_every_page_and_only_pages_that_exist() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", index)
    assert all((ROOT / "docs" / link).exists() for link in links)
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(links)
