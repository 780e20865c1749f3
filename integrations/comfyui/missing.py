"""What keeps the nodes from being imported, in a line that ComfyUI's log ends with."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TORCH_PACKAGES = ("torch", "torchvision", "torchaudio")


def what_is_missing(error: BaseException) -> str:
    """One line: what cannot be imported, and what to do. The cause is the first error of the chain: packages that load their
    modules on demand wrap it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    python, module = sys.executable, getattr(error, "name", None) or ""
    if module == "phonofilm":
        return f"Phonofilm is not installed in ComfyUI's Python (3.11 or later). Run: {python} -m pip install -e {_source()}"
    if module.startswith("comfy_api"):
        return f"this ComfyUI has no {module}. The nodes need ComfyUI 0.3.64 or later: update it"
    cause = f"Phonofilm cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
    if re.search("torchvision|torchaudio", str(error)):
        installed = ", ".join(map(_installed, TORCH_PACKAGES))
        return f"{cause}. Installed: {installed}. ComfyUI needs the torchvision and torchaudio that were built for its torch"
    return (
        f"{cause}. See what does not fit: {python} -m pip check; reinstall with: {python} -m pip install -e {_source()}"
    )


def _source() -> str:
    """The folder that Phonofilm is installed from, where this pack still lies in it."""
    root = Path(__file__).resolve().parents[2]
    return f'"{root}"' if (root / "src" / "phonofilm").is_dir() else "/path/to/phonofilm"


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} missing"
