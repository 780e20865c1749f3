"""Reading, writing and measuring pictures, sounds and clips. Each name is imported on first use, not here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phonofilm.media.clip import Clip
    from phonofilm.media.clip_checks import ContainerReport, check_container
    from phonofilm.media.images import fit_image, load_image
    from phonofilm.media.metadata import read_metadata
    from phonofilm.media.read import read_clip
    from phonofilm.media.sheet import contact_sheet
    from phonofilm.media.sound import read_audio
    from phonofilm.media.write import save_clip

_HOMES = {
    "Clip": "clip",
    "ContainerReport": "clip_checks",
    "check_container": "clip_checks",
    "contact_sheet": "sheet",
    "fit_image": "images",
    "load_image": "images",
    "read_audio": "sound",
    "read_clip": "read",
    "read_metadata": "metadata",
    "save_clip": "write",
}

__all__ = [
    "Clip",
    "ContainerReport",
    "check_container",
    "contact_sheet",
    "fit_image",
    "load_image",
    "read_audio",
    "read_clip",
    "read_metadata",
    "save_clip",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"phonofilm.media.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'phonofilm.media' has no attribute {name!r}")
