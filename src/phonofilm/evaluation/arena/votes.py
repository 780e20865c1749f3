"""Votes in a file that only grows: one JSON line each, on the disk before the page says thank you."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from phonofilm.errors import InputError
from phonofilm.untrusted import NO_FILE_FAULT, file_fault, parse_json

Question = Literal["picture", "sound", "sync", "overall"]
QUESTIONS: tuple[Question, ...] = ("picture", "sound", "sync", "overall")
Answer = Literal["left", "right", "tie"]
ANSWERS: tuple[Answer, ...] = ("left", "right", "tie")
LONGEST_LINE = 2**16  # bytes; a vote has some hundred


@dataclass(frozen=True)
class Vote:
    """One answer to one question about one pair. left, right: the models' names; time: ISO 8601, UTC."""

    clip: str
    left: str
    right: str
    question: Question
    answer: Answer
    time: str

    @property
    def score(self) -> float:
        """Of the left model: 1 where it won, 0 where it lost, a half for a tie."""
        return {"left": 1.0, "tie": 0.5, "right": 0.0}[self.answer]


class VoteFile:
    """Appends votes and reads them back, those of other processes with the same file too."""

    def __init__(self, path: Path) -> None:
        """Raises InputError for a path that is a folder, or anything else but a file."""
        fault = file_fault(path)
        if fault not in (None, NO_FILE_FAULT):
            raise InputError(f"votes cannot be kept in {path}: {fault}; name a file, which is made if it is not there")
        self.path = path
        self._read: list[Vote] = []
        self._as_of: tuple[int, int, int] | None = None

    def require_writable(self) -> None:
        """Raises InputError where `append` cannot work, before somebody has voted."""
        place = self.path if self.path.exists() else next(one for one in self.path.absolute().parents if one.exists())
        if not os.access(place, os.W_OK):
            raise InputError(
                f"votes cannot be kept in {self.path}: {place} cannot be written to; name another with --votes"
            )

    def append(self, votes: Sequence[Vote]) -> None:
        """Add the votes behind the others; what a crash left of a last line goes first. Raises InputError."""
        lines = b"".join(json.dumps(asdict(vote), ensure_ascii=False).encode() + b"\n" for vote in votes)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as stream:
                last = _last_line(stream)
                if last and _is_cut_off(last):
                    stream.truncate(stream.seek(0, os.SEEK_END) - len(last))
                elif last:
                    lines = b"\n" + lines
                _write_whole(stream, lines)
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(f"the vote could not be kept in {self.path}: {error.strerror}") from error

    def read(self) -> list[Vote]:
        """All votes so far, in order; read again when the file has changed.

        What a crash left of the last line is left out. Raises InputError for any other line that is no vote.
        """
        try:
            state = self.path.stat()
            as_of = (state.st_ino, state.st_size, state.st_mtime_ns)
            if as_of != self._as_of:
                self._read, self._as_of = self._votes(self.path.read_bytes().split(b"\n")), as_of
        except FileNotFoundError:
            self._read, self._as_of = [], None
        except OSError as error:
            raise InputError(f"the votes in {self.path} cannot be read: {error.strerror}") from error
        return list(self._read)

    def _votes(self, lines: Sequence[bytes]) -> list[Vote]:
        votes = []
        for number, line in enumerate(lines, 1):
            if not line.strip() or (number == len(lines) and _is_cut_off(line)):
                continue
            try:
                votes.append(_vote(parse_json(line)))
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(
                    f"{self.path}, line {number}, is no vote: {error}; mend or remove that line"
                ) from error
        return votes


def _write_whole(stream: BinaryIO, lines: bytes) -> None:
    """All of it or nothing: a full disk takes the beginning of what is written, and says so only at the next write."""
    before = stream.seek(0, os.SEEK_END)
    try:
        left = memoryview(lines)
        while left:
            left = left[stream.write(left) :]
    except OSError:
        stream.truncate(before)
        raise


def _last_line(stream: BinaryIO) -> bytes:
    """What stands behind the last line break."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - LONGEST_LINE))
    return stream.read().rpartition(b"\n")[2]


def _is_cut_off(line: bytes) -> bool:
    """Whether a line is the beginning of an object, which is no JSON before its last character."""
    try:
        parse_json(line)
    except ValueError:
        return line.startswith(b"{")
    return False


def _vote(value: object) -> Vote:
    if not isinstance(value, dict) or value.get("question") not in QUESTIONS or value.get("answer") not in ANSWERS:
        raise ValueError(f"expected clip, left, right, a question of {QUESTIONS} and an answer of {ANSWERS}")
    texts = {name: value[name] for name in ("clip", "left", "right", "time")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("clip, left, right and time are texts")
    return Vote(**texts, question=value["question"], answer=value["answer"])
