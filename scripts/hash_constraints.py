"""Writes constraints-hashes.txt: every version of constraints.txt with the SHA-256 of its files, for `pip --require-hashes`.

    python scripts/hash_constraints.py

The index is asked by uv, in an environment of its own. Nothing is resolved, downloaded or installed: the versions are given, and
the index says which files they have. Only torch's own needs are looked up besides, for Linux, where they are exact versions.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINS = ROOT / "constraints.txt"
TARGET = ROOT / "constraints-hashes.txt"
PIN = re.compile(r"([\w.-]+)==([^\s\\;]+)")
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
HEAD = """\
# constraints.txt with the SHA-256 of the files that the package index has of each version, for every platform; written by
# scripts/hash_constraints.py. To install these files and no others (CPython 3.11, Linux, x86-64):
#   pip install --require-hashes --requirement constraints-hashes.txt && pip install --no-deps --editable .
# torch is the index's build, for CUDA, and what only that build needs is at the end. Builds from elsewhere, as those for the CPU
# alone (2.13.0+cpu), are not in the index, which knows no hash of them: to use one, take torch and the end out of a copy.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        bin_folder = Path(folder) / "bin"
        run([bin_folder / "python", "-m", "pip", "install", "--quiet", "uv"])
        pinned = ask(bin_folder / "uv", PINS, ["--no-deps"])
        torch = next(line for line in PINS.read_text().splitlines() if line.startswith("torch=="))
        asked = Path(folder) / "torch.txt"
        asked.write_text(torch + "\n")
        needed = ask(bin_folder / "uv", asked, ["--constraint", PINS])
    wanted = {normalised(*pin) for pin in PIN.findall(PINS.read_text())}
    if missing := sorted("==".join(pin) for pin in wanted - pinned.keys()):
        sys.exit(f"error: the index has no file of {', '.join(missing)}; correct constraints.txt")
    needs = {pin: hashes for pin, hashes in needed.items() if pin not in pinned}
    TARGET.write_text(HEAD + as_text(pinned) + "# What torch needs on Linux besides.\n" + as_text(needs))
    print(f"wrote {TARGET.name}: {len(pinned)} versions, and {len(needs)} that torch needs besides")


def ask(uv: Path, wanted: Path, options: list[str | Path]) -> dict[tuple[str, str], list[str]]:
    """(name, version) -> SHA-256 of its files, of what is wanted."""
    with tempfile.NamedTemporaryFile("r") as answer:
        how = [*PLATFORM, "--generate-hashes", "--quiet", "--output-file", answer.name]
        run([uv, "pip", "compile", wanted, *options, *how])
        return read_hashes(Path(answer.name).read_text())


def run(command: list[str | Path]) -> None:
    if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        sys.exit(f"error: no hashes were written: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def read_hashes(text: str) -> dict[tuple[str, str], list[str]]:
    """(name, version) -> SHA-256 of its files, of a requirements file whose lines go on after a backslash."""
    pins = {}
    for line in text.replace("\\\n", " ").splitlines():
        if pin := PIN.match(line):
            pins[normalised(pin[1], pin[2])] = re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
    return pins


def normalised(name: str, version: str) -> tuple[str, str]:
    return re.sub(r"[-_.]+", "-", name).lower(), version


def as_text(pins: dict[tuple[str, str], list[str]]) -> str:
    lines = []
    for (name, version), hashes in sorted(pins.items()):
        lines += [f"{name}=={version}", *(f"    --hash=sha256:{one}" for one in sorted(hashes))]
        lines[-len(hashes) - 1 : -1] = [f"{line} \\" for line in lines[-len(hashes) - 1 : -1]]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
