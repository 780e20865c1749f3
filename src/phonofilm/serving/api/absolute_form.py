"""Requests that name the whole address, `GET http://host/v1/videos HTTP/1.1`, as a client does that takes us for a proxy."""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import Scope

_ABSOLUTE = re.compile(rb"https?://([^/@]+)(/.*)?", re.IGNORECASE)


def in_origin_form(scope: Scope) -> Scope:
    """The request as one for a path; the address's host counts, and not the header Host (RFC 9112, 3.2.2)."""
    if scope["path"].startswith("/") or (match := _ABSOLUTE.fullmatch(scope["raw_path"])) is None:
        return scope
    path = match[2] or b"/"
    headers = [(b"host", match[1]), *(one for one in scope["headers"] if one[0] != b"host")]
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path, "headers": headers}
