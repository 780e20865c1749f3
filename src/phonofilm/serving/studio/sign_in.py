"""Signing in to the page with a key, and out again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.services import Bearer, Cookie, ServicesOf, access_of_request
from phonofilm.serving.security.access import ADMIN, READ, WRITE, Access
from phonofilm.serving.security.api_keys import access_of, has_keys
from phonofilm.serving.security.browser_sessions import COOKIE, SESSION_SECONDS, end_session, start_session

router = APIRouter(tags=["studio"], responses=ERRORS)
# Key and cookie are looked at, and nobody needs one: an empty requirement beside the others says so in OpenAPI.
FOR_EVERYBODY: dict[str, Any] = {"security": [{}]}


class StudioSession(BaseModel):
    """Whether a key is needed here, and what the one that was shown may do."""

    needs_key: bool
    signed_in: bool
    can_read: bool
    can_write: bool
    can_administer: bool


class SignIn(BaseModel):
    """POST /studio/session."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=200, description="Of `phonofilm serve keys create`.")]


@router.get("/studio/session", operation_id="getSession", openapi_extra=FOR_EVERYBODY)
def get_session(request: Request, services: ServicesOf, bearer: Bearer, cookie: Cookie) -> StudioSession:
    """Who this browser is to the server."""
    return _described(has_keys(services.database), access_of_request(request, services, bearer, cookie))


@router.post("/studio/session", operation_id="signIn")
def sign_in(fields: SignIn, request: Request, services: ServicesOf, response: Response) -> StudioSession:
    """Show a key once; a cookie stands for it from then on, for 30 days."""
    if not has_keys(services.database):
        return _described(False, access_of(services.database, None))
    token = start_session(services.database, fields.key.strip())
    if token is None:
        raise ApiError(401, "this key is not valid here; ask whoever runs the server for one", "invalid_api_key")
    response.set_cookie(
        COOKIE, token, round(SESSION_SECONDS), path="/", secure=request.url.scheme == "https", httponly=True,
        samesite="strict",
    )  # fmt: skip
    return _described(True, access_of(services.database, fields.key.strip()))


@router.delete("/studio/session", operation_id="signOut", openapi_extra=FOR_EVERYBODY)
def sign_out(services: ServicesOf, response: Response, cookie: Cookie) -> StudioSession:
    """End the session."""
    if cookie is not None:
        end_session(services.database, cookie)
        services.keyring.forget()
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return _described(has_keys(services.database), access_of(services.database, None))


def _described(needs_key: bool, access: Access | None) -> StudioSession:
    can_read, can_write, can_administer = (access is not None and access.may(one) for one in (READ, WRITE, ADMIN))
    return StudioSession(
        needs_key=needs_key,
        signed_in=access is not None,
        can_read=can_read,
        can_write=can_write,
        can_administer=can_administer,
    )
