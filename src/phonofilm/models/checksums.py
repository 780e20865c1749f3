"""What the hub says a downloaded file's contents hash to, and whether they do. No network: the cache remembers it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from phonofilm.errors import CheckpointError
from phonofilm.files import read_chunks

SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def expected_digest(root: Path, file: Path) -> str | None:
    """The digest the hub gave for `file` when it was downloaded into the checkpoint folder `root`; None when unknown.

    In the hub's cache a file is a link to a blob named by its digest; in a plain download folder the digest is the second
    line of a note under .cache. It is a SHA-256 for large files (64 digits) and git's blob SHA-1 (40) for the others.
    """
    digest = ""
    if file.is_symlink() and file.resolve().parent.name == "blobs":
        digest = file.resolve().name
    note = root / ".cache" / "huggingface" / "download" / f"{file.relative_to(root)}.metadata"
    if note.is_file():
        lines = note.read_text(encoding="utf-8").splitlines()
        digest = lines[1].strip() if len(lines) > 1 else ""
    return digest if SHA256.fullmatch(digest) or GIT_SHA1.fullmatch(digest) else None


def check_digest(file: Path, digest: str, progress: Callable[[int], None]) -> None:
    """Raises CheckpointError when `file` does not hash to `digest`. `progress` is called with the bytes of every chunk read."""
    if SHA256.fullmatch(digest):
        hasher = hashlib.sha256()
    else:
        hasher = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    for chunk in read_chunks(file):
        hasher.update(chunk)
        progress(len(chunk))
    if hasher.hexdigest() != digest:
        raise CheckpointError(
            f"{file} is damaged: its digest is {hasher.hexdigest()[:12]}..., the hub's is {digest[:12]}...; "
            f"delete {file.resolve()} and download again"
        )
