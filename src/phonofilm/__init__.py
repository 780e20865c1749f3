"""Phonofilm: a clip's picture and sound, generated together. The public names live here and are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phonofilm.errors import PhonofilmError
    from phonofilm.generation.session import Session, load
    from phonofilm.geometry import ClipGeometry
    from phonofilm.media import Clip, read_clip, save_clip
    from phonofilm.pipeline.decode import MovaPipelineOutput
    from phonofilm.pipeline.mova import MovaPipeline

__version__ = "0.1.0"

_HOMES = {
    "Clip": "phonofilm.media",
    "ClipGeometry": "phonofilm.geometry",
    "MovaPipeline": "phonofilm.pipeline.mova",
    "MovaPipelineOutput": "phonofilm.pipeline.decode",
    "PhonofilmError": "phonofilm.errors",
    "Session": "phonofilm.generation.session",
    "load": "phonofilm.generation.session",
    "read_clip": "phonofilm.media",
    "save_clip": "phonofilm.media",
}

__all__ = [
    "Clip",
    "ClipGeometry",
    "MovaPipeline",
    "MovaPipelineOutput",
    "PhonofilmError",
    "Session",
    "__version__",
    "load",
    "read_clip",
    "save_clip",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'phonofilm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
