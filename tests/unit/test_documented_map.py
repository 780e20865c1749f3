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


def test_the_index_names_every_page_and_only_pages_that_exist() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", index)
    assert all((ROOT / "docs" / link).exists() for link in links)
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(links)
