"""Blind comparison of the library's clips: who is compared, which pair comes next, and the votes. Ratings are evaluation's."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import delete, insert, select, update

from phonofilm.errors import InputError
from phonofilm.evaluation.arena.votes import ANSWERS, QUESTIONS, Vote
from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import ARENA_PAIR, ARENA_VOTE
from phonofilm.serving.jobs.job import JobRequest
from phonofilm.serving.jobs.roster import model_facts
from phonofilm.serving.library.clips import LibraryClip, Wanted, clip_page
from phonofilm.serving.library.differing import differing_settings
from phonofilm.serving.security.access import Access

ComparedBy = Literal["model", "loras", "settings", "folder", "tag"]
MOST_CLIPS = 5000
OPEN_SECONDS = 86_400.0  # that a pair may be looked at before it is voted on
LONGEST_NAME = 300
Meeting = tuple[str, str, str]  # a prompt, and two names in order
Sides = tuple[list[LibraryClip], list[LibraryClip]]
_Alike = tuple[tuple[tuple[str, str], ...], int | None]
WAYS_OF_MAKING = ("model", "loras", "settings")


@dataclass(frozen=True)
class Match:
    """A pair as it was shown. left, right: names of clips; left_name, right_name: what is compared."""

    key: str
    prompt: str
    left: str
    right: str
    left_name: str
    right_name: str
    voted: bool


@dataclass(frozen=True)
class Field:
    """All that can be compared: each meeting's two sides, once for each kind of clips that are alike but for the names.

    names: how many clips each name has.
    """

    meetings: dict[Meeting, list[Sides]]
    names: dict[str, int]


def field_of(database: Database, access: Access, by: ComparedBy, folder: str | None = None) -> Field:
    """The clips of the library, met by prompt."""
    found = clip_page(database, access, Wanted(folder=folder), limit=MOST_CLIPS, cursor=None)
    assert found is not None  # there is no cursor
    facts = {name: model_facts(database, name) for name in {clip.job.model for clip in found.clips}}
    alike: dict[tuple[str, _Alike], dict[str, list[LibraryClip]]] = defaultdict(lambda: defaultdict(list))
    names: Counter[str] = Counter()
    for clip in found.clips:
        for name in names_of(clip, by, facts[clip.job.model]):
            alike[_prompt(clip), _alike(clip, by)][name].append(clip)
            names[name] += 1
    meetings: dict[Meeting, list[Sides]] = defaultdict(list)
    for (prompt, _), sides in alike.items():
        for one, other in itertools.combinations(sorted(sides), 2):
            if prompt and {clip.id for clip in sides[one]} != {clip.id for clip in sides[other]}:
                meetings[prompt, one, other].append((sides[one], sides[other]))
    return Field(dict(meetings), dict(names))


def names_of(clip: LibraryClip, by: ComparedBy, facts: Mapping[str, Any] | None) -> list[str]:
    """What a clip stands for; several where it has several tags, nothing where it has no folder. facts: of its model.

    A retake or a continuation is another clip in part, whatever that was made with: it stands for no model, LoRA or settings.
    Nor does a clip with a given file of which nobody knows what it held. Settings are named by what differs from the model's.
    """
    request, model = clip.job.request, clip.job.model
    if by in WAYS_OF_MAKING and (is_part_of_another(request) or not set(request.inputs) <= set(request.hashes)):
        return []
    if by == "model":
        return [model]
    if by == "loras":
        return [f"{model}: {', '.join(request.loras)}" if request.loras else f"{model}: no LoRA"][:LONGEST_NAME]
    if by == "settings":
        settings = differing_settings(request.options, facts)
        return [", ".join([model, *(request.loras or []), *settings])[:LONGEST_NAME]]
    return [clip.folder] if by == "folder" and clip.folder else list(clip.tags) if by == "tag" else []


def is_part_of_another(request: JobRequest) -> bool:
    """Whether the clip is in part the one it was made from: a retake, or a continuation."""
    return "retake" in request.options or "continue_from" in {*request.inputs, *request.urls}


def _alike(clip: LibraryClip, by: ComparedBy) -> _Alike:
    """What two clips have in common that are compared by how they were made: what was given, and, on one model, the length."""
    request = clip.job.request
    if by not in WAYS_OF_MAKING:
        return ((), None)
    given = [*request.hashes.items(), *request.urls.items(), *([("drawn", "")] if request.draw_first_frame else [])]
    return tuple(sorted(given)), None if by == "model" else clip.job.made.get("num_frames")


def next_match(database: Database, access: Access, by: ComparedBy, field: Field) -> Match:
    """One of the meetings with the fewest votes, its clips and sides by chance. Raises InputError where nothing meets."""
    if not field.meetings:
        raise InputError(
            "there is no pair to compare: it takes two clips of one prompt that differ in what is compared, and in nothing else "
            "that was given; make a clip again with another model, LoRA or settings, or give clips tags or folders"
        )
    seen = votes_by_meeting(database, access, by)
    counts = {meeting: seen[meeting] for meeting in field.meetings}
    fewest = [meeting for meeting, count in counts.items() if count == min(counts.values())]
    meeting = secrets.choice(fewest)
    one, other = secrets.choice(field.meetings[meeting])
    first = secrets.choice(one)
    second = secrets.choice([clip for clip in other if clip.id != first.id] or other)
    sides = [(first, meeting[1]), (second, meeting[2])]
    if secrets.randbelow(2):
        sides.reverse()
    (left, left_name), (right, right_name) = sides
    match = Match(secrets.token_hex(16), meeting[0], left.id, right.id, left_name, right_name, voted=False)
    old = ARENA_PAIR.c.shown_at < DatabaseNow() - OPEN_SECONDS
    with database.write() as connection:
        connection.execute(delete(ARENA_PAIR).where(old, ARENA_PAIR.c.voted_at.is_(None)))
        connection.execute(
            insert(ARENA_PAIR).values(
                key=match.key, owner=access.owner, kind=by, prompt=match.prompt, left_clip=match.left,
                right_clip=match.right, left_name=left_name, right_name=right_name, shown_at=DatabaseNow(),
            )
        )  # fmt: skip
    return match


def find_match(database: Database, access: Access, key: str) -> Match | None:
    """A pair that was shown to this key."""
    statement = select(*ARENA_PAIR.c).where(ARENA_PAIR.c.key == key, ARENA_PAIR.c.owner == access.owner)
    with database.read() as connection:
        row = connection.execute(statement).mappings().first()
    return None if row is None else _match(row)


def vote(database: Database, match: Match, answers: Mapping[str, str]) -> bool:
    """Keep the answers; False when the pair was voted on already. Raises InputError for a strange question or answer."""
    if not answers:
        raise InputError("no question was answered")
    for question, answer in answers.items():
        if question not in QUESTIONS or answer not in ANSWERS:
            raise InputError(f"{question}: {answer} is no vote; answer {QUESTIONS} with {ANSWERS}")
    open_pair = update(ARENA_PAIR).where(ARENA_PAIR.c.key == match.key, ARENA_PAIR.c.voted_at.is_(None))
    with database.write() as connection:
        if not connection.execute(open_pair.values(voted_at=DatabaseNow())).rowcount:
            return False
        rows = [{"pair": match.key, "question": one, "answer": answers[one]} for one in QUESTIONS if one in answers]
        connection.execute(insert(ARENA_VOTE), rows)
    return True


def votes_of(database: Database, access: Access, by: ComparedBy | None = None) -> list[Vote]:
    """This key's votes as evaluation's arena keeps them, the first one first."""
    return [vote for _, vote in _votes(database, access, by)]


def votes_by_meeting(database: Database, access: Access, by: ComparedBy) -> Counter[Meeting]:
    """How often each meeting was voted on."""
    pairs = dict(_votes(database, access, by))
    return Counter((one.clip, *sorted((one.left, one.right))) for one in pairs.values())  # type: ignore[misc]


def _votes(database: Database, access: Access, by: ComparedBy | None) -> Iterator[tuple[str, Vote]]:
    statement = (
        select(*ARENA_PAIR.c, ARENA_VOTE.c.question, ARENA_VOTE.c.answer)
        .join(ARENA_VOTE, ARENA_VOTE.c.pair == ARENA_PAIR.c.key)
        .where(ARENA_PAIR.c.owner == access.owner)
        .order_by(ARENA_PAIR.c.voted_at, ARENA_PAIR.c.key, ARENA_VOTE.c.question)
    )
    if by is not None:
        statement = statement.where(ARENA_PAIR.c.kind == by)
    with database.read() as connection:
        rows: Sequence[Any] = connection.execute(statement).mappings().all()
    for row in rows:
        time = datetime.fromtimestamp(row["voted_at"], UTC).isoformat(timespec="seconds")
        yield (
            row["key"],
            Vote(row["prompt"], row["left_name"], row["right_name"], row["question"], row["answer"], time),
        )


def _match(row: Any) -> Match:
    return Match(
        row["key"], row["prompt"], row["left_clip"], row["right_clip"], row["left_name"], row["right_name"],
        voted=row["voted_at"] is not None,
    )  # fmt: skip


def _prompt(clip: LibraryClip) -> str:
    return " ".join(clip.job.request.prompt.split())
