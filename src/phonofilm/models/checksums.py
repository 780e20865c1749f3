"""What a checkpoint's files should hash to, and whether they do: by the hub's word when they were downloaded, or by ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from phonofilm.errors import CheckpointError
from phonofilm.files import file_hash, read_chunks

CHECKSUMS, SIDECAR = "checksums.sha256", ".sha256"
MOST_BYTES = 4 * 2**20  # of a list of digests: a hundred bytes a file
SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def expected_digest(root: Path, file: Path) -> str | None:
    """The digest of `file` in the checkpoint folder `root`, from the hub or from when we saved it; None when unknown.

    In the hub's cache a file is a link to a blob named by its digest; in a plain download folder the digest is the second
    line of a note under .cache. It is a SHA-256 for large files (64 digits) and git's blob SHA-1 (40) for the others.
    """
    digest = ""
    if file.is_symlink() and file.resolve().parent.name == "blobs":
        digest = file.resolve().name
    note = root / ".cache" / "huggingface" / "download" / f"{file.relative_to(root)}.metadata"
    if note.is_file():
        lines = _lines(note)
        digest = lines[1].strip() if len(lines) > 1 else ""
    if not digest:
        digest = _saved_digests(root).get(file.relative_to(root).as_posix(), "")
    return digest if SHA256.fullmatch(digest) or GIT_SHA1.fullmatch(digest) else None


def write_checksums(root: Path) -> None:
    """The SHA-256 of every file of a checkpoint folder into CHECKSUMS, as `sha256sum --check` reads it."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != root / CHECKSUMS)
    lines = [f"{file_hash(file)}  {file.relative_to(root).as_posix()}\n" for file in files]
    (root / CHECKSUMS).unlink(missing_ok=True)  # it may be a hard link to another checkpoint's
    (root / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _saved_digests(root: Path) -> dict[str, str]:
    if not (root / CHECKSUMS).is_file():
        return {}
    return {path: digest for digest, _, path in (line.partition("  ") for line in _lines(root / CHECKSUMS))}


def listed_files(root: Path) -> list[Path]:
    """The files of the folder that CHECKSUMS names, whether they are there or not; none without it."""
    return [root / name for name, digest in _saved_digests(root).items() if _is_sound(name, digest)]


def list_fault(root: Path) -> str | None:
    """What is wrong with CHECKSUMS itself, if it is there."""
    listed = _saved_digests(root)
    if not (root / CHECKSUMS).is_file() or (listed and all(_is_sound(*line) for line in listed.items())):
        return None
    return f"{CHECKSUMS} is damaged, so not all that it said of the files is known; save the folder again, or remove it"


def _is_sound(name: str, digest: str) -> bool:
    """Whether a line of CHECKSUMS is one that we write: a digest, and a file of the folder."""
    inside = "\0" not in name and ".." not in Path(name).parts and not Path(name).is_absolute()
    return inside and name != "" and SHA256.fullmatch(digest) is not None


def _lines(file: Path) -> list[str]:
    """The lines of a short text; none of one that is longer than any list of digests."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read(MOST_BYTES + 1)
    return text.splitlines() if len(text) <= MOST_BYTES else []


def digest_file(file: Path) -> Path:
    """Where the digest of a single file stands: NAME.sha256 beside it, as `sha256sum --check` reads it."""
    return file.with_name(file.name + SIDECAR)


def digest_line(file: Path) -> str:
    """What its sidecar holds."""
    return f"{file_hash(file)}  {file.name}\n"


def sidecar_digest(file: Path) -> str | None:
    """The digest in a file's sidecar; None without one."""
    lines = _lines(digest_file(file)) if digest_file(file).is_file() else []
    found = [digest for digest, _, name in (line.partition("  ") for line in lines) if name == file.name]
    return found[0] if found and SHA256.fullmatch(found[0]) else None


def check_digest(file: Path, digest: str, progress: Callable[[int], None]) -> None:
    """Raises CheckpointError when `file` does not hash to `digest`. `progress` is called with the bytes of every chunk read."""
    if not file.is_file():
        raise CheckpointError(f"{file} is gone, whose digest is known; copy or save the folder again")
    if SHA256.fullmatch(digest):
        hasher = hashlib.sha256()
    else:
        hasher = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    for chunk in read_chunks(file):
        hasher.update(chunk)
        progress(len(chunk))
    if hasher.hexdigest() != digest:
        raise CheckpointError(
            f"{file} is damaged: its digest is {hasher.hexdigest()[:12]}..., expected {digest[:12]}...; "
            f"delete {file.resolve()} and download or save it again"
        )
