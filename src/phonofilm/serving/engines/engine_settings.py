"""Another engine that makes the clips in place of a session of ours: which, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from phonofilm.errors import InputError

SGLANG = "sglang"
# The sizes that SGLang has for MOVA, by the model's name: height, width.
SIZES = {"360p": (352, 640), "720p": (720, 1280)}


@dataclass(frozen=True)
class EngineSettings:
    """kind: "sglang". url: where its HTTP server is, without a path."""

    kind: str
    url: str


def engine_settings(kind: str | None, url: str | None, models: Iterable[str]) -> EngineSettings | None:
    """The engine that was named; None for ours. Raises InputError for what is missing or unknown."""
    if kind is None or kind == "phonofilm":
        if url is not None:
            raise InputError("an engine's address was given and no engine; add --engine sglang")
        return None
    if kind != SGLANG:
        raise InputError(f"engine {kind!r:.40} is unknown; use phonofilm or sglang")
    if url is None:
        raise InputError("--engine sglang needs the address of its server: add --engine-url http://127.0.0.1:30000")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise InputError(f"{url!r:.200} is no address of a server; use for example http://127.0.0.1:30000")
    if (names := list(models)) not in (["360p"], ["720p"]):
        raise InputError(
            f"an SGLang server holds one released model: add --model 360p or --model 720p (there is {', '.join(names)})"
        )
    return EngineSettings(kind, url.rstrip("/"))
