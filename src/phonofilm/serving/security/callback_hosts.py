"""The receivers of callbacks that the operator lets in by name, although they are private or listen on another port."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from phonofilm.errors import InputError
from phonofilm.untrusted import shown

CALLBACK_HOSTS = "PHONOFILM_CALLBACK_HOSTS"
USUAL_PORTS = (80, 443)


def hosts_from_environment() -> frozenset[tuple[str, int]]:
    """Hosts and ports of the operator's list. Raises InputError for an entry that is no HOST or HOST:PORT."""
    given = os.environ.get(CALLBACK_HOSTS, "").replace(",", " ").split()
    return frozenset(pair for text in given for pair in _pairs(text))


def _pairs(text: str) -> list[tuple[str, int]]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.netloc != text or "@" in text or text.endswith(":"):
        raise InputError(f"{CALLBACK_HOSTS}: {shown(text)} is no HOST or HOST:PORT; use for example 127.0.0.1:9000")
    return [(host, one) for one in (USUAL_PORTS if port is None else (port,))]
