"""Where help with writing is asked for: an address and a model, and the key in the environment, never in a file or a log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.data.endpoint import Endpoint

KEY_VARIABLE = "PHONOFILM_WRITING_KEY"
TIMEOUT = 120.0
RETRIES = 2


@dataclass(frozen=True)
class WritingEndpoint:
    """url: up to and with /v1. model: as the endpoint names it. Travels to workers; the key does not."""

    url: str
    model: str

    def open(self) -> Endpoint:
        """The endpoint, with the key of KEY_VARIABLE (else OPENAI_API_KEY), if there is one. Raises InputError."""
        from phonofilm.data.endpoint import Endpoint  # HTTP, which a command that asks nobody does without

        key = os.environ.get(KEY_VARIABLE) or os.environ.get("OPENAI_API_KEY") or None
        return Endpoint(self.url, self.model, key, timeout=TIMEOUT, retries=RETRIES)


def require_writing_endpoint(url: str | None, model: str | None) -> WritingEndpoint:
    """The endpoint that was named. Raises InputError where none was."""
    chosen = writing_endpoint(url, model)
    if chosen is None:
        raise InputError(
            "no model writes prompts here; name one with --endpoint and --model, for example "
            "--endpoint http://localhost:8080/v1 --model qwen3 (or PHONOFILM_WRITING_ENDPOINT and PHONOFILM_WRITING_MODEL)"
        )
    return chosen


def writing_endpoint(url: str | None, model: str | None) -> WritingEndpoint | None:
    """The endpoint that was named, or None where none was. Raises InputError for half of one, or an address that is none."""
    if not url and not model:
        return None
    if not url:
        raise InputError(f"the writing model {model!r} has no endpoint; add for example http://localhost:8080/v1")
    if not model:
        raise InputError(
            "the writing endpoint needs a model; name it with --model (of serve: --writing-model), or in PHONOFILM_WRITING_MODEL"
        )
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InputError(f"put the endpoint's key into {KEY_VARIABLE}, not into its address")
    endpoint = WritingEndpoint(url, model)
    endpoint.open()
    return endpoint
