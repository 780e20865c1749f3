"""Which pair is shown next, and what is done with its votes. Knows no server and no page: the studio can host it as well."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import InputError
from phonofilm.evaluation.arena.ratings import rate, win_shares
from phonofilm.evaluation.arena.votes import ANSWERS, QUESTIONS, Question, Vote, VoteFile
from phonofilm.evaluation.clip_list import list_clips
from phonofilm.evaluation.row_cache import plain
from phonofilm.units import counted
from phonofilm.untrusted import shown

UNSURE = "– (the votes do not say)"
RATING_COLUMNS = ("model", "Elo", "Bradley-Terry", "95 %", "votes")
SHARE_COLUMNS = ("model", "against", "win", "tie", "lose", "votes")


@dataclass(frozen=True)
class ShownPair:
    """Two clips of one prompt by two models, in the order they are shown. key: names the pair without its models."""

    key: str
    clip: str
    left: str
    right: str


class Arena:
    """The models' clips, the votes so far, and the pairs that are open."""

    def __init__(self, folders: Sequence[Path], votes: Path, seed: int | None = None) -> None:
        """Raises InputError for fewer than two folders, two of one name, or none of whose clips have a name in common."""
        names = Counter(_name(folder) for folder in folders)
        if len(folders) < 2:
            raise InputError("one folder was given; name two or more, one for each model")
        (often, times), *_ = names.most_common()
        if times > 1:
            raise InputError(f"{times} folders are named {shown(often)}; votes name models by them, so rename one")
        self.clips = {_name(folder): {entry.id: entry.path for entry in list_clips([folder])} for folder in folders}
        self._pairs = [
            (clip, first, second)
            for first, second in itertools.combinations(self.clips, 2)
            for clip in self.clips[first].keys() & self.clips[second].keys()
        ]
        if not self._pairs:
            raise InputError("no clip is in two of the folders; clips of one prompt must have one name")
        paired = {(model, clip) for clip, *models in self._pairs for model in models}
        self.alone = sum(len(clips) for clips in self.clips.values()) - len(paired)  # clips that no other model has
        self._file = VoteFile(votes)
        self._file.read()
        self._rng = np.random.default_rng(seed)
        self._open: dict[str, ShownPair] = {}
        self._lock = threading.Lock()

    def next_pair(self) -> ShownPair:
        """One of the pairs with the fewest votes, its sides by chance."""
        with self._lock:
            seen = Counter((vote.clip, *sorted((vote.left, vote.right))) for vote in self._file.read())
            counts = [seen[clip, *sorted((first, second))] for clip, first, second in self._pairs]
            fewest = [pair for pair, count in zip(self._pairs, counts, strict=True) if count == min(counts)]
            clip, *models = fewest[int(self._rng.integers(len(fewest)))]
            if self._rng.random() < 0.5:
                models.reverse()
            pair = ShownPair(self._rng.bytes(12).hex(), clip, models[0], models[1])
            self._open[pair.key] = pair
            return pair

    def file_of(self, key: str, side: str) -> Path:
        """The clip on a side of an open pair. Raises InputError for any other."""
        pair = self._known(key)
        if side not in ("left", "right"):
            raise InputError(f"a pair has no side {side!r}; it has left and right")
        return self.clips[pair.left if side == "left" else pair.right][pair.clip]

    def vote(self, key: str, answers: Mapping[str, str]) -> ShownPair:
        """Keep the answers to a pair's questions; its models. Raises InputError for a strange question or answer."""
        with self._lock:
            pair = self._known(key)
            if not answers:
                raise InputError("no question was answered")
            for question, answer in answers.items():
                if question not in QUESTIONS or answer not in ANSWERS:
                    raise InputError(f"{question}: {answer} is no vote; answer {QUESTIONS} with {ANSWERS}")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            votes = [
                Vote(pair.clip, pair.left, pair.right, question, answer, now)
                for question in QUESTIONS
                for answer in ANSWERS
                if answers.get(question) == answer
            ]
            self._file.append(votes)
            del self._open[key]
            return pair

    def standings(self, question: Question = "overall") -> dict[str, Any]:
        """Ratings and win shares of one question, and which votes are left out, as JSON values."""
        votes = [vote for vote in self._all_votes() if vote.question == question]
        good = [vote for vote in votes if self._counts(vote)]
        ratings = [vars(one) for one in rate(good)]
        shares = [vars(one) for one in win_shares(good)]
        value = {"question": question, "ratings": ratings, "win_shares": shares, "left_out": self._left_out(votes)}
        rounded: dict[str, Any] = plain(value, 4)
        return rounded

    def results(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The standings of every question that has votes; and, as sentences, what else there is to say of the votes."""
        votes = self._all_votes()
        asked = [standings for question in QUESTIONS if (standings := self.standings(question))["ratings"]]
        alone = [f"{counted(self.alone, 'clip')} without a partner"] if self.alone else []
        return asked, [*([] if asked else [f"no votes yet in {self._file.path}"]), *self._left_out(votes), *alone]

    def require_writable(self) -> None:
        """Raises InputError where votes could not be kept."""
        self._file.require_writable()

    @property
    def progress(self) -> tuple[int, int]:
        """How many pairs have been voted on, of how many there are."""
        done = {(vote.clip, *sorted((vote.left, vote.right))) for vote in self._all_votes()}
        return sum((clip, *sorted((first, second))) in done for clip, first, second in self._pairs), len(self._pairs)

    def _all_votes(self) -> list[Vote]:
        with self._lock:
            return self._file.read()

    def _counts(self, vote: Vote) -> bool:
        return vote.left != vote.right and vote.left in self.clips and vote.right in self.clips

    def _left_out(self, votes: Sequence[Vote]) -> list[str]:
        """What is wrong with the votes that do not count, in sentences."""
        itself = sum(vote.left == vote.right for vote in votes)
        strange = [{vote.left, vote.right} - self.clips.keys() for vote in votes if vote.left != vote.right]
        names = ", ".join(sorted(set[str]().union(*strange)))
        said = [f"{counted(itself, 'vote')} of a model against itself left out"] if itself else []
        count = sum(map(bool, strange))
        return [
            *said,
            *([f"{counted(count, 'vote')} left out, of models that are not in the folders: {names}"] if count else []),
        ]

    def _known(self, key: str) -> ShownPair:
        if key not in self._open:
            raise InputError("this pair is closed or was never shown; take the next one")
        return self._open[key]


def _name(folder: Path) -> str:
    return folder.resolve().name


def rating_rows(standings: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row of RATING_COLUMNS for each model."""
    for one in standings["ratings"]:
        interval = UNSURE if one["low"] is None else f"{one['low']:.0f} to {one['high']:.0f}"
        figures = (f"{one['elo']:.1f}", f"{one['bradley_terry']:.1f}", interval)
        yield (one["model"], *figures, str(one["votes"]))


def share_rows(standings: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row of SHARE_COLUMNS for each pair of models."""
    for one in standings["win_shares"]:
        percent = (f"{one[name]:.1%}" for name in ("win", "tie", "lose"))
        yield (one["model"], one["opponent"], *percent, str(one["votes"]))
