"""`make audit`: what is known against the versions in constraints.txt, asked of pip-audit in an environment of its own.

Exit code 0: nothing is known. 1: something is. 2: it could not be found out, and why.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 600
NOT_AUDITED = "could not be audited"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        installed = run([python, "-m", "pip", "install", "--quiet", "pip-audit"])
        if installed.returncode:
            stop(f"pip-audit cannot be installed, so nothing was audited: {last_line(installed.stderr)}")
        audited = run(
            [python, "-m", "pip_audit", "--requirement", ROOT / "constraints.txt", "--no-deps", "--disable-pip"]
        )
    if audited.returncode and not audited.stdout.strip():
        stop(f"the index of vulnerabilities did not answer, so nothing was audited: {last_line(audited.stderr)}")
    if audited.returncode:
        print(audited.stdout, end="")
        print(audited.stderr, end="", file=sys.stderr)
        sys.exit(1)
    # pip-audit calls it a success when the index knew none of the packages.
    if unknown := audited.stdout.count(NOT_AUDITED):
        stop(
            f"{unknown} packages could not be audited: this index does not say what is known of them; try another network"
        )
    print("nothing is known against the pinned versions")


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {SECONDS} s")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
