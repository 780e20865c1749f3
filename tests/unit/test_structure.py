"""The structure of the code, counted by scripts/count_structure.py. A figure may fall, and the limit with it; not rise."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import GOLDENS

# The goal of the design is 90. Of the functions, a third opens a checkpoint, checks what
# its files say and builds the networks; a tenth is the forward's own preparation. It rose once, by the six that keep two
# processes from making one output.
MOST_FUNCTIONS = 245
MOST_CLI_LINES = 2200
MOST_TOLD = 0


@pytest.fixture(scope="module")
def count() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "count_structure", GOLDENS.parents[1] / "scripts" / "count_structure.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["count_structure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(count: ModuleType) -> dict[str, ast.Module]:
    return count.sources()


def test_a_clip_is_planned_once_on_its_way_to_the_model(count: ModuleType) -> None:
    """In a process of its own: what other tests left in this one can keep calls from being seen."""
    words = "import count_structure as c; w = c.count_way(sys.argv[1]); counts = w.layouts_read, w.tokenized, w.networks_on_meta"
    code = f"import sys; sys.path.insert(0, sys.argv[2]); {words}; print(*counts, len(w.to_forward))"
    asked = [sys.executable, "-c", code, str(GOLDENS / "basic" / "checkpoint"), str(Path(str(count.__file__)).parent)]
    ended = subprocess.run(asked, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    layouts_read, tokenized, networks_on_meta, functions = map(int, ended.stdout.split())
    assert layouts_read == 1
    assert tokenized == 2  # the prompt, and the negative prompt
    assert networks_on_meta == 7  # each compared with its file, and then loaded into
    assert functions <= MOST_FUNCTIONS


def test_nothing_outside_the_command_line_imports_it(count: ModuleType, modules: dict[str, ast.Module]) -> None:
    assert count.imports_of_cli(modules) == []


def test_no_module_imports_itself_through_others(count: ModuleType, modules: dict[str, ast.Module]) -> None:
    assert count.circles({name: count.imports(tree, set(modules)) for name, tree in modules.items()}) == []


def test_a_public_name_has_one_home(count: ModuleType, modules: dict[str, ast.Module]) -> None:
    assert count.names_twice(modules) == {}


def test_files_are_short_and_words_plain(count: ModuleType) -> None:
    assert count.long_files() == []
    assert count.lines_of(count.PACKAGE / "cli") <= MOST_CLI_LINES
    assert count.told() <= MOST_TOLD
