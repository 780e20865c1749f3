"""Routes of the arena: two clips of one prompt, side by side and without names, until there is a vote."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from phonofilm.errors import InputError
from phonofilm.evaluation.arena.ratings import rate, win_shares
from phonofilm.evaluation.arena.votes import Answer, Question, Vote
from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.content import range_of, send_variant
from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.services import MayRead, MayWrite, Services, ServicesOf
from phonofilm.serving.library.clips import LibraryClip
from phonofilm.serving.library.comparing import (
    ComparedBy,
    Match,
    field_of,
    find_match,
    next_match,
    vote,
    votes_by_meeting,
    votes_of,
)
from phonofilm.serving.security.access import Access
from phonofilm.serving.studio.clips import clip_or_404
from phonofilm.serving.studio.objects import StudioClip, studio_clip

router = APIRouter(tags=["studio"], responses=ERRORS)


class Contestant(BaseModel):
    """What is compared, and how many clips it has."""

    name: str
    clips: int


class ArenaState(BaseModel):
    """pairs: meetings of two contestants over one prompt; voted: those with a vote."""

    by: ComparedBy
    contestants: list[Contestant]
    pairs: int
    voted: int


class PairFields(BaseModel):
    """Which clips are compared, and by what."""

    model_config = ConfigDict(extra="forbid")

    by: ComparedBy = "model"
    folder: Annotated[str | None, Field(max_length=100)] = None


class ArenaPair(BaseModel):
    """Two clips without names."""

    key: str
    prompt: str
    left_url: str
    right_url: str
    voted: int
    pairs: int


class VoteFields(BaseModel):
    """An answer to each question that one cares to answer."""

    model_config = ConfigDict(extra="forbid")

    answers: Annotated[dict[Question, Answer], Field(min_length=1, examples=[{"sync": "left", "overall": "tie"}])]


class RevealedSide(BaseModel):
    """What was on a side. clip: None when it has been deleted since."""

    name: str
    clip: StudioClip | None


class Reveal(BaseModel):
    """Which was which."""

    left: RevealedSide
    right: RevealedSide


class Standings(BaseModel):
    """Ratings, the strongest first, with the middle 95 % over votes drawn anew; and shares of wins, ties and losses."""

    question: Question
    ratings: list[dict[str, Any]]
    win_shares: list[dict[str, Any]]


@router.get("/v1/studio/arena", operation_id="getArena")
def get_arena(services: ServicesOf, access: MayRead, by: ComparedBy = "model") -> ArenaState:
    """Who can be compared, and how far one has come."""
    field = field_of(services.database, access, by)
    voted = votes_by_meeting(services.database, access, by)
    contestants = [Contestant(name=name, clips=count) for name, count in sorted(field.names.items())]
    done = sum(meeting in voted for meeting in field.meetings)
    return ArenaState(by=by, contestants=contestants, pairs=len(field.meetings), voted=done)


@router.post("/v1/studio/arena/pairs", operation_id="nextPair")
def next_pair(fields: PairFields, services: ServicesOf, access: MayWrite) -> ArenaPair:
    """Two clips of one prompt, one of the pairs with the fewest votes."""
    field = field_of(services.database, access, fields.by, fields.folder)
    try:
        match = next_match(services.database, access, fields.by, field)
    except InputError as error:
        raise ApiError(409, str(error), "no_pairs") from None
    voted = votes_by_meeting(services.database, access, fields.by)
    here = f"/v1/studio/arena/pairs/{match.key}"
    return ArenaPair(
        key=match.key,
        prompt=match.prompt,
        left_url=f"{here}/left",
        right_url=f"{here}/right",
        voted=sum(meeting in voted for meeting in field.meetings),
        pairs=len(field.meetings),
    )


@router.get("/v1/studio/arena/pairs/{key}/vote", include_in_schema=False)
def refuse_to_read_a_vote() -> None:
    """Else the next route would take `vote` for a side."""
    raise HTTPException(405, "votes are sent, with POST", headers={"Allow": "POST"})


@router.get(
    "/v1/studio/arena/pairs/{key}/{side}",
    operation_id="getPairClip",
    response_class=Response,
    responses={200: {"description": "The clip.", "content": {"video/mp4": {}}}, 206: {"description": "A part of it."}},
)
def get_pair_clip(
    key: str,
    side: Literal["left", "right"],
    services: ServicesOf,
    access: MayRead,
    range: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """A side of a pair; neither the address nor the answer says which clip it is."""
    match = _match_or_404(services, access, key)
    clip = clip_or_404(services, access, match.left if side == "left" else match.right)
    tag = f'"{key}-{side}"'
    answer = send_variant(services, clip.job, "video", clip.number, range_of(range, if_range, tag))
    answer.headers["Content-Disposition"] = f'attachment; filename="{side}.mp4"'
    answer.headers["ETag"] = tag
    return answer


@router.post("/v1/studio/arena/pairs/{key}/vote", operation_id="votePair")
def vote_pair(key: str, fields: VoteFields, services: ServicesOf, access: MayWrite) -> Reveal:
    """Vote, and learn which was which."""
    match = _match_or_404(services, access, key)
    if not vote(services.database, match, {str(one): str(answer) for one, answer in fields.answers.items()}):
        raise ApiError(409, "this pair was voted on already; take the next one", "already_voted")
    left, right = (_found(services, access, one) for one in (match.left, match.right))
    return Reveal(
        left=RevealedSide(name=match.left_name, clip=None if left is None else studio_clip(left)),
        right=RevealedSide(name=match.right_name, clip=None if right is None else studio_clip(right)),
    )


@router.get("/v1/studio/arena/standings", operation_id="getStandings")
def get_standings(
    services: ServicesOf, access: MayRead, by: ComparedBy = "model", question: Question = "overall"
) -> Standings:
    """Elo and Bradley-Terry ratings of one question."""
    return services.media.run(standings_of, votes_of(services.database, access, by), question)


@router.get(
    "/v1/studio/arena/votes",
    operation_id="exportVotes",
    response_class=PlainTextResponse,
    responses={200: {"description": "One vote a line.", "content": {"application/x-ndjson": {}}}},
)
def export_votes(services: ServicesOf, access: MayRead) -> Response:
    """Every vote, in the lines that `phonofilm arena` writes."""
    lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in votes_of(services.database, access))
    headers = {"Content-Disposition": 'attachment; filename="votes.jsonl"'}
    return Response(lines, headers=headers, media_type="application/x-ndjson")


def standings_of(votes: list[Vote], question: Question) -> Standings:
    """The standings by evaluation's ratings."""
    asked = [one for one in votes if one.question == question]
    ratings = [{**asdict(one), **_rounded(asdict(one))} for one in rate(asked)]
    shares = [asdict(one) for one in win_shares(asked)]
    return Standings(question=question, ratings=ratings, win_shares=shares)


def _rounded(rating: dict[str, Any]) -> dict[str, float | None]:
    figures = {name: rating[name] for name in ("elo", "bradley_terry", "low", "high")}
    return {name: None if value is None else round(value, 1) for name, value in figures.items()}


def _match_or_404(services: Services, access: Access, key: str) -> Match:
    match = find_match(services.database, access, key)
    if match is None:
        raise ApiError(
            404, "this pair was never shown, or is too old; take the next one", "pair_not_found", param="key"
        )
    return match


def _found(services: Services, access: Access, name: str) -> LibraryClip | None:
    try:
        return clip_or_404(services, access, name)
    except ApiError:
        return None
