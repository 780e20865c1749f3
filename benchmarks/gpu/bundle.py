"""Collects the wheels that a borrowed GPU machine without network lacks, and prints the line that runs the benchmark there.

    python -m benchmarks.gpu.bundle

The machine has Python 3.12 on Linux x86_64 with PyTorch, Triton, transformers, accelerate, peft and pytest. PyAV, which is
larger than all of this, stays behind: the benchmark writes no files where it is missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEELS = Path("build/gpu-wheels")
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# diffusers and what it needs, what text is cleaned with, and what reads training's settings.
PACKAGES = (
    "diffusers",
    "importlib_metadata",
    "zipp",
    "ftfy",
    "wcwidth",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_inspection",
)
RUN = "/tmp/edition-2"
MIB = 1 << 20
ALLOWED = 64 * MIB
"""Bytes that may travel, wheels and tree together."""


def main() -> int:
    """Download, add up what must travel, and say how to run it."""
    _download()
    wheels = sum(path.stat().st_size for path in (ROOT / WHEELS).glob("*.whl"))
    tree = sum(path.stat().st_size for path in _tree() if path.is_file())
    print(f"wheels {wheels / MIB:.1f} MiB in {WHEELS}, tree {tree / MIB:.1f} MiB, of {ALLOWED / MIB:.0f} MiB")
    if wheels + tree > ALLOWED:
        print("too large to travel; remove what is not tracked from the tree, or ignore it", file=sys.stderr)
        return 1
    print("On the GPU machine, in the root of the tree (the wheels are an ignored folder that must travel with it):\n")
    print(f"  {run_line()}\n\nor, to train the second edition of the embedded model instead:\n\n  {edition_line()}\n")
    return 0


def run_line(out: str = '"$OUT"') -> str:
    """The one command that installs the wheels beside the machine's own packages and measures."""
    return f"{_python_line()} -m benchmarks.gpu --out {out}"


def edition_line(out: str = '"$OUT"') -> str:
    """The same for a recipe's run: its world, which is far too large to come back, stays there; what was learnt comes back."""
    train = f"{_python_line('timeout 570 ')} -m phonofilm nano train --edition 2 --device cuda --run {RUN}"
    kept = "-name '*.csv' -o -name 'sheet_*.png' -o -name metrics.json -o -path './checkpoint/*'"
    return f"{train}; cd {RUN} && find . -type f \\( {kept} \\) -exec cp --parents {{}} {out} \\;"


def _python_line(before: str = "") -> str:
    install = f"python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site {WHEELS}/*.whl"
    return f"{install} && PYTHONPATH=/tmp/site:src:. PYTHONUNBUFFERED=1 {before}python3"


def _download() -> None:
    """In the versions that the project's own environment has; two versions of one package would not install."""
    for old in (ROOT / WHEELS).glob("*.whl"):
        old.unlink()
    for_the_card = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *for_the_card, *platforms]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--dest", str(ROOT / WHEELS)]
    subprocess.run([*command, *PACKAGES], check=True)


def _tree() -> list[Path]:
    """What git would take along: tracked files, and others that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


if __name__ == "__main__":
    sys.exit(main())
