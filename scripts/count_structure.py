"""Counts the structure of the code: how far an option travels to the first forward, who imports whom, what is named twice.

    python scripts/count_structure.py

`tests/unit/test_structure.py` holds the figures.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "phonofilm"
LINES = 300


@dataclass(frozen=True)
class Way:
    """What runs from the option of `phonofilm generate` to the pipeline, and on to the first forward: file:function."""

    to_pipeline: frozenset[str]
    to_forward: frozenset[str]
    layouts_read: int
    tokenized: int
    networks_on_meta: int


def count_way(model: str) -> Way:
    """Make a tiny clip with the command, and note every function of the package that is entered before the first forward."""
    from typer.testing import CliRunner

    from phonofilm.cli.main import app

    seen: set[str] = set()
    before_pipeline: set[str] = set()
    calls: dict[str, int] = defaultdict(int)
    on = off = False

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal on, off, before_pipeline
        code = frame.f_code
        if event != "call" or off or not code.co_filename.startswith(str(PACKAGE)):
            return
        name = f"{Path(code.co_filename).relative_to(PACKAGE)}:{code.co_qualname}"
        on = on or name == "cli/generate.py:generate"
        if name == "pipeline/run_plan.py:run_plan":
            before_pipeline = set(seen)
        if name.startswith("models/shared_forward.py:forward"):
            off = True
            return
        if name.startswith("models/one_pass.py:"):
            return  # what an autoencoder computes is no part of an option's way, and diffusers' own is not seen either
        if on and "<" not in code.co_qualname.split(".")[-1]:
            seen.add(name)
            calls[name] += 1

    with TemporaryDirectory() as folder:
        words = "--overwrite --device cpu --size 32x32 --num-frames 5 --steps 1 --seed 1"
        clip = ("--model", model, *words.split(), "-o", f"{folder}/clip.safetensors")
        command = ["generate", "a lamp", *clip]
        CliRunner().invoke(app, command)  # imports what it needs, so that the second time only functions are called
        sys.setprofile(profile)
        try:
            done = CliRunner().invoke(app, command)
        finally:
            sys.setprofile(None)
    if done.exit_code != 0:
        raise RuntimeError(done.output)
    return Way(
        frozenset(before_pipeline),
        frozenset(seen),
        calls["models/layout.py:read_layout"],
        calls["pipeline/conditions.py:tokenize"],
        calls["models/building.py:empty_module"],
    )


def sources() -> dict[str, ast.Module]:
    """Every module of the package, by its dotted name."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = (
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for file in files
    )
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in zip(names, files, strict=True)}


def imports(module: ast.Module, known: set[str]) -> set[str]:
    """Modules of the package that this one imports when it is imported; what functions import later does not count."""
    found: set[str] = set()
    nodes: list[ast.AST] = list(module.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {name for one in node.names if (name := f"{node.module}.{one.name}") in known}
            found |= (
                {node.module} & known if not all(f"{node.module}.{one.name}" in known for one in node.names) else set()
            )
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names} & known
        nodes += ast.iter_child_nodes(node)
    return found


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves through others."""

    def reaches(start: str) -> bool:
        waiting, seen = list(graph[start]), set[str]()
        while waiting:
            name = waiting.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                waiting += graph.get(name, ())
        return False

    return sorted(name for name in graph if reaches(name))


def imports_of_cli(modules: dict[str, ast.Module]) -> list[str]:
    """Modules outside the command line that name it, even inside a function. `__main__` is the command line."""
    outside = {name: tree for name, tree in modules.items() if ".cli" not in name and name != "phonofilm.__main__"}
    return sorted(name for name, tree in outside.items() if "phonofilm.cli" in ast.dump(tree))


def names_twice(modules: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Public classes and functions that are defined in more than one module.

    The commands' functions are no API, and a migration's are named by alembic, which calls `upgrade` in each.
    """
    homes: dict[str, list[str]] = defaultdict(list)
    for name, tree in modules.items():
        if ".cli." in name or ".migrations." in name:
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    return {name: where for name, where in homes.items() if len(set(where)) > 1}


def lines_of(folder: Path) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in folder.rglob("*.py"))


def long_files() -> list[str]:
    """Files of more than 300 lines, in the package, the recipes, the benchmarks and the scripts."""
    folders = (PACKAGE, ROOT / "recipes", ROOT / "benchmarks", ROOT / "scripts")
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*.py")]
    return sorted(str(f.relative_to(ROOT)) for f in files if len(f.read_text(encoding="utf-8").splitlines()) > LINES)


def told() -> int:
    """How often the word stands in the package."""
    return sum(len(re.findall(r"\btold\b", file.read_text(encoding="utf-8"))) for file in PACKAGE.rglob("*.py"))


def main() -> None:
    modules = sources()
    graph = {name: imports(tree, set(modules)) for name, tree in modules.items()}
    way = count_way("nano")
    print(f"functions from the option to the pipeline: {len(way.to_pipeline)}, in {_files(way.to_pipeline)} files")
    print(f"functions from the option to the first forward: {len(way.to_forward)}, in {_files(way.to_forward)} files")
    print(f"read_layout {way.layouts_read}, tokenize {way.tokenized}, empty_module {way.networks_on_meta} times")
    print(f"imports of cli from outside: {imports_of_cli(modules)}")
    print(f"lines of cli/: {lines_of(PACKAGE / 'cli')}")
    print(f"told: {told()}")
    print(f"public names in two modules: {names_twice(modules)}")
    print(f"files over {LINES} lines: {long_files()}")
    print(f"modules in import circles: {circles(graph)}")


def _files(functions: frozenset[str]) -> int:
    return len({function.partition(":")[0] for function in functions})


if __name__ == "__main__":
    main()
