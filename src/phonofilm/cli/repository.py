"""What only the repository has, beside the installed package: the benchmarks, and the recipe of the embedded model."""

from __future__ import annotations

import sys
from pathlib import Path

from phonofilm.errors import InputError


def find_in_repository(file: str, what: str, install: str) -> None:
    """Make the repository importable. Raises InputError where the package was installed without it."""
    repository = Path(__file__).resolve().parents[3]
    if not (repository / file).is_file():
        raise InputError(
            f"{what} not part of the installed package; clone the repository (https://github.com/phonofilm/phonofilm), "
            f"which has {file}, and install from there: {install}"
        )
    if str(repository) not in sys.path:
        sys.path.insert(0, str(repository))
