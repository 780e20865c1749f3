"""The models that have a short name, and what a model's name may be. Imports nothing: unknown names are refused at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phonofilm.errors import InputError
from phonofilm.untrusted import shown

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class KnownModel:
    """A model with a short name. `hub_id` is None for the packaged one; `nbytes` is about what a download takes."""

    name: str
    hub_id: str | None
    nbytes: int
    about: str


KNOWN_MODELS = (
    KnownModel("nano", None, 40 * 10**6, "the embedded model: tiny, for a CPU, nothing to download"),
    KnownModel("360p", "OpenMOSS-Team/MOVA-360p", 77_700_000_000, "MOVA, 352x640, up to 8 s"),
    KnownModel("720p", "OpenMOSS-Team/MOVA-720p", 77_700_000_000, "MOVA, 720x1280, up to 8 s"),
)


# The sizes of the two releases, height and width; each is its own release's default.
NAMED_SIZES = {"360p": (352, 640), "720p": (720, 1280)}


def hub_id_of(name: str) -> str:
    """`360p` -> `OpenMOSS-Team/MOVA-360p`; a hub id is itself. Raises InputError for anything else."""
    for model in KNOWN_MODELS:
        if model.name == name and model.hub_id is not None:
            return model.hub_id
    if HUB_ID.fullmatch(name) is None:
        short = ", ".join(model.name for model in KNOWN_MODELS)
        raise InputError(
            f"{shown(name)!r} is no model: expected a checkpoint folder, a hub id (owner/name), or one of {short}"
        )
    return name
