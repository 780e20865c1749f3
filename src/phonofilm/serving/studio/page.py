"""The page's built files: at /studio, with a policy that lets it ask this server and nobody else."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import FileResponse, RedirectResponse, Response

from phonofilm.serving.api.errors import ApiError

router = APIRouter(include_in_schema=False)

BUILT = Path(__file__).with_name("static")
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
# Styles may be inline: places on the axis of time are written so. Scripts may not.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; font-src 'self'; connect-src 'self' blob:; worker-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PACKED = {".html", ".js", ".css", ".svg", ".json", ".webmanifest", ".txt"}
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:,|$|;(?!\s*q=0(?:\.0*)?\s*(?:,|$)))")
HEADERS = {"Content-Security-Policy": POLICY, "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()"}
Encodings = Annotated[str, Header()]
NOT_BUILT = (
    "the studio's page is not in this installation: install a released package, or run `npm ci && npm run build` in the "
    "folder web of the source and start again"
)
_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/){0,4}[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def is_built() -> bool:
    """Whether this installation has the page."""
    return (BUILT / "index.html").is_file()


def page_version() -> str | None:
    """Changes whenever any file of the page does, since index.html names them by their hashes; None where it was not built."""
    return hashlib.sha256((BUILT / "index.html").read_bytes()).hexdigest()[:16] if is_built() else None


@router.get("/")
def lead_to_page() -> Response:
    """Whoever types the server's address means the page."""
    return RedirectResponse("/studio")


@router.get("/studio")
@router.get("/studio/")
def get_page(accept_encoding: Encodings = "") -> Response:
    """The page. Raises ApiError (404) where it was not built."""
    if not is_built():
        raise ApiError(404, NOT_BUILT, "page_not_built")
    return _file(BUILT / "index.html", "no-cache", accept_encoding)


@router.get("/studio/{name:path}")
def get_page_file(name: str, accept_encoding: Encodings = "") -> Response:
    """A file that the page is made of. Those in assets/ have a hash in their name and never change."""
    file = BUILT / name
    if _NAME.fullmatch(name) is None or file.suffix not in PAGE_TYPES or not file.is_file():
        raise ApiError(404, "the page has no such file", "unknown_url")
    caching = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
    return _file(file, caching, accept_encoding)


def _file(file: Path, caching: str, accept_encoding: str) -> Response:
    headers = {**HEADERS, "Cache-Control": caching}
    if file.suffix not in PACKED:
        return FileResponse(file, media_type=PAGE_TYPES[file.suffix], headers=headers)
    headers["Vary"] = "Accept-Encoding"
    if _GZIP.search(accept_encoding) is None:
        return FileResponse(file, media_type=PAGE_TYPES[file.suffix], headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(_packed(file, file.stat().st_mtime_ns), media_type=PAGE_TYPES[file.suffix], headers=headers)


@lru_cache(maxsize=64)
def _packed(file: Path, changed: int) -> bytes:
    """The file's bytes, compressed once for each time that it `changed`: over a slow line the page is there in half the time."""
    return gzip.compress(file.read_bytes(), mtime=0)
