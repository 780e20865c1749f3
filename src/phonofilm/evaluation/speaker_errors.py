"""cpCER: character errors of a transcript with speakers, under the best assignment of speakers. Texts only, no sound.

After the evaluation code of MOVA (metrics/cpcer/speaker_metrics.py): numbers are not written out, and only what stands
behind a tag such as [S01] counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TAG = re.compile(r"\[S\d+\]")
# ASCII colons, semicolons and percent signs stay.
_DROPPED = " \t\r\n!,?、。！，；？：「」︰『』《》.-|()[]{}\"'…·—～【】〔〕〈〉﹃﹄﹁﹂‘’“”"
_TABLE = str.maketrans("", "", _DROPPED)


@dataclass(frozen=True)
class SpeakerErrors:
    """One clip's counts. speakers, heard: how many the reference and the transcript have.

    errors: under the best assignment; errors_without: with all speakers' words in the order in which they stand.
    """

    errors: int
    characters: int
    errors_without: int
    characters_without: int
    speakers: int
    heard: int


def speaker_errors(transcript: str, reference: str) -> SpeakerErrors:
    """Compare texts such as "[S01] Good morning. [S02] Morning!". What stands before the first tag is lost."""
    wanted = [plain_characters(text) for text in words_by_speaker(reference).values()]
    found = [plain_characters(text) for text in words_by_speaker(transcript).values()]
    all_wanted, all_found = plain_characters(TAG.sub(" ", reference)), plain_characters(TAG.sub(" ", transcript))
    return SpeakerErrors(
        errors=_least_errors(wanted, found),
        characters=sum(map(len, wanted)),
        errors_without=edit_distance(all_wanted, all_found),
        characters_without=len(all_wanted),
        speakers=len(wanted),
        heard=len(found),
    )


def _least_errors(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Errors of the speakers that are paired with least, all characters of those without a partner being errors.

    Only real pairs are compared: an answer with thousands of speakers makes no square of them.
    """
    few, many = sorted((wanted, found), key=len)
    saved = [[edit_distance(a, b) - len(b) for b in many] for a in few]
    costs = np.array(saved, dtype=np.int64).reshape(len(few), len(many))
    chosen = sum(int(costs[row, column]) for row, column in enumerate(cheapest_assignment(costs)))
    return chosen + sum(map(len, many))


def words_by_speaker(text: str) -> dict[str, str]:
    """What stands behind each tag, up to the next; a speaker's parts joined in their order."""
    tags = list(TAG.finditer(text))
    ends = [tag.start() for tag in tags[1:]] + [len(text)]
    spoken: dict[str, str] = {}
    for tag, end in zip(tags, ends, strict=False):
        spoken[tag.group()] = spoken.get(tag.group(), "") + text[tag.end() : end].strip()
    return spoken


def plain_characters(text: str) -> str:
    """Lower case, without spaces and the marks of Latin and Chinese punctuation."""
    return text.translate(_TABLE).lower()


def edit_distance(reference: str, found: str) -> int:
    """The least number of characters to replace, insert and delete."""
    codes = np.array([ord(character) for character in found], dtype=np.int64)
    steps = np.arange(len(codes) + 1)
    row = steps.copy()
    for position, character in enumerate(reference, 1):
        best = row + 1
        best[1:] = np.minimum(best[1:], row[:-1] + (codes != ord(character)))
        best[0] = position
        # Insertions cost 1 each, so the best way along the row is a running minimum.
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def cheapest_assignment(costs: np.ndarray) -> Sequence[int]:
    """For each row of a matrix with as many columns or more its column, each at most once, with the least sum.

    The Hungarian algorithm: rows^2 x columns steps.
    """
    rows, size = costs.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(size + 1)
    row_of = np.zeros(size + 1, dtype=int)  # of each column, counted from 1; 0 is free
    for row in range(1, rows + 1):
        way = np.zeros(size + 1, dtype=int)
        slack, done = np.full(size + 1, np.inf), np.zeros(size + 1, dtype=bool)
        row_of[0], column = row, 0
        while row_of[column]:
            done[column] = True
            current = row_of[column]
            reduced = costs[current - 1] - row_price[current] - column_price[1:]
            better = ~done[1:] & (reduced < slack[1:])
            slack[1:][better], way[1:][better] = reduced[better], column
            nearest = int(np.argmin(np.where(done, np.inf, slack)[1:])) + 1
            step = slack[nearest]
            row_price[row_of[done]] += step
            column_price[done] -= step
            slack[~done] -= step
            column = nearest
        while column:
            row_of[column], column = row_of[way[column]], way[column]
    columns = np.empty(rows, dtype=int)
    taken = np.flatnonzero(row_of[1:])
    columns[row_of[1:][taken] - 1] = taken
    return [int(column) for column in columns]
