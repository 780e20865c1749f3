"""Votes in a file that only grows: one JSON line each, on the disk before the page says thank you."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from phonofilm.errors import InputError
from phonofilm.untrusted import parse_json

Question = Literal["picture", "sound", "sync", "overall"]
QUESTIONS: tuple[Question, ...] = ("picture", "sound", "sync", "overall")
Answer = Literal["left", "right", "tie"]
ANSWERS: tuple[Answer, ...] = ("left", "right", "tie")


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
    """Appends votes and reads them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, votes: Sequence[Vote]) -> None:
        """Add the votes behind the others; a line that a crash cut off is ended first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")
            for vote in votes:
                stream.write(json.dumps(asdict(vote), ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[Vote]:
        """All votes so far, in order. A line that was cut off is left out; any other that is no vote is an InputError."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")
        votes = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                votes.append(_vote(parse_json(line)))
            except (ValueError, TypeError, KeyError) as error:
                if not line.rstrip().endswith(b"}"):
                    continue
                raise InputError(f"{self.path}, line {number}, is no vote: {error}") from error
        return votes


def _vote(value: object) -> Vote:
    if not isinstance(value, dict) or value.get("question") not in QUESTIONS or value.get("answer") not in ANSWERS:
        raise ValueError(f"expected clip, left, right, a question of {QUESTIONS} and an answer of {ANSWERS}")
    texts = {name: value[name] for name in ("clip", "left", "right", "time")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("clip, left, right and time are texts")
    return Vote(**texts, question=value["question"], answer=value["answer"])
