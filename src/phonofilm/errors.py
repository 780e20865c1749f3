"""The errors a user can meet. Each message says what was given, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterator


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


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from or while handling, each once: a chain that comes back to itself ends."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is one for one in seen):
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
