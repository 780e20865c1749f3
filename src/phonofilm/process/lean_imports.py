"""Keeps diffusers from importing, at its own start, two packages that no command of ours reaches through it.

diffusers imports bitsandbytes and peft, and with them PyTorch's compiler and distributed training, whether they are used
or not: a fifth of what a command takes to start. Quantising to nf4 and training import what they need themselves, as ever.
Only the command line and the server's own processes do this, in which nobody else uses diffusers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# Where diffusers looks once for what is installed, and keeps the answer.
LOOKS_AROUND = "diffusers.utils"
HIDDEN = ("bitsandbytes", "peft")


def make_imports_lean() -> None:
    """From here on diffusers does not see HIDDEN. Changes nothing where it was imported before."""
    if LOOKS_AROUND not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds LOOKS_AROUND, once, with a loader that hides; everything else is left to the usual finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LOOKS_AROUND:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _HidingLoader(spec.loader)
        return spec


class _HidingLoader(Loader):
    """Runs a module while the packages of HIDDEN that nobody imported yet cannot be."""

    def __init__(self, usual: Loader) -> None:
        self.usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        hidden = [name for name in HIDDEN if name not in sys.modules]
        # None there means: not to be imported, and, for those who only ask, not installed.
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
        try:
            self.usual.exec_module(module)
        finally:
            for name in hidden:
                del sys.modules[name]
