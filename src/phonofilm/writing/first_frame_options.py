"""Who draws first frames, as it was asked for; checked before anything is imported. Drawing: first_frame.py."""

from __future__ import annotations

from dataclasses import dataclass

from phonofilm.errors import InputError
from phonofilm.writing.writing_endpoint import writing_endpoint

ADDRESSES = ("http://", "https://")


@dataclass(frozen=True)
class FirstFrameOptions:
    """source: the address of an images endpoint (then `model` is its model), or a text-to-image model of diffusers."""

    source: str
    model: str | None = None

    @property
    def is_endpoint(self) -> bool:
        return self.source.startswith(ADDRESSES)


def first_frame_options(source: str | None, model: str | None) -> FirstFrameOptions | None:
    """What was asked for, or None. Raises InputError for half of it, or an address that is none."""
    if source is None:
        if model is not None:
            raise InputError("--first-frame-model names an endpoint's model; add --first-frame-from with its address")
        return None
    options = FirstFrameOptions(source, model)
    if not options.is_endpoint:
        if model is not None:
            raise InputError(f"--first-frame-model is for endpoints; {source!r} is a model already")
        return options
    if model is None:
        raise InputError("an images endpoint needs a model; add for example --first-frame-model gpt-image-1")
    writing_endpoint(source, model)
    return options


@dataclass(frozen=True)
class FirstFrameWords:
    """The same as the command line has it."""

    first_frame_from: str | None = None
    first_frame_model: str | None = None

    def drawing(self) -> FirstFrameOptions | None:
        """What was asked for, checked."""
        return first_frame_options(self.first_frame_from, self.first_frame_model)
