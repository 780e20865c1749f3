"""The errors a user can meet. Each message says what was given, what was expected and what to do; nothing else lives here."""

from __future__ import annotations


class PhonofilmError(Exception):
    """Base of every error this package raises on purpose. The CLI turns it into exit code 1."""


class InputError(PhonofilmError, ValueError):
    """The request itself is wrong (a size, a file, a combination of options). The CLI turns it into exit code 2."""


class CheckpointError(PhonofilmError):
    """A checkpoint cannot be used: something is missing, unknown, misshapen, truncated or unsafe."""


class MediaError(PhonofilmError):
    """A picture, clip or sound could not be read or written."""


class OutOfMemoryError(PhonofilmError):
    """The memory of a device, or of the host, ran out while something was made."""


class MissingExtraError(PhonofilmError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'phonofilm[{extra}]'")
