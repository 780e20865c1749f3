"""Errors of the API in OpenAI's shape: {"error": {message, type, param, code}}."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DataError, DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from phonofilm.errors import PhonofilmError
from phonofilm.serving.api.fields import MEANT, ChangeFields, EditFields
from phonofilm.serving.database.outages import is_unreachable, reason_of
from phonofilm.serving.jobs.job_queue import QueueFull
from phonofilm.serving.side_process import SideProcessError
from phonofilm.serving.store.interface import StoreError
from phonofilm.serving.worker.failures import is_disk_error, without_paths
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)

# Commas in a JSON text of a request; the longest list that anybody needs has a few hundred.
MAX_VALUES = 100_000
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What went wrong, and where."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = status, message, code, param, headers


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A request that cannot be met."""
    return ApiError(400, message, code, param=param)


def not_found(video_id: str) -> ApiError:
    """No such video, or one of another key: the answer is the same."""
    return ApiError(404, f"no video {shown(video_id)}", "video_not_found", param="video_id")


def error_response(
    status: int, message: str, code: str | None, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer of an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Turn every error into an answer of the same shape."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(QueueFull, _queue_full)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(StoreError, _store)
    app.add_exception_handler(SideProcessError, _not_done)
    app.add_exception_handler(PhonofilmError, _refused)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Exception, _unexpected)


def no_json(reason: object) -> ApiError:
    """A body that is no JSON at all."""
    return invalid(f"the body is no JSON: {shown(reason)}", code="invalid_json")


def too_many_values(what: str = "the body", param: str | None = None) -> ApiError:
    """JSON that was not read, for the time and the memory that it would take."""
    return invalid(f"{what} has more than {MAX_VALUES:,} values (commas are counted); send fewer", param)


def no_object() -> ApiError:
    """A body that is another kind of JSON, or none."""
    return invalid("the body must be a JSON object", code="invalid_json")


def wrong_kind(kind: str) -> ApiError:
    """A body of a content type that nothing here reads."""
    message = f"content type {shown(kind)} is not read; use JSON or a multipart form"
    return ApiError(415, message, "unsupported_media")


def first_fault(errors: Any, fields: type[BaseModel] | None = None) -> tuple[str, str | None]:
    """Pydantic's first complaint as a sentence, and its field; `fields` are those that there are.

    An unknown field comes first: others are missing for it.
    """
    fault = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    names = [str(part) for part in fault["loc"] if str(part) not in ("body", "query", "path", "header")]
    names = [name for name in names if re.fullmatch(r"[A-Za-z_-]+|\d+", name)]
    param = names[0] if names else None
    if fault["type"] == "extra_forbidden":
        return _unknown(param or "", fields), param
    if fault["type"] == "string_too_short" and param == "prompt":
        return "the prompt is empty; say what should be seen and heard", param
    text = str(fault["msg"]).removeprefix("Value error, ")
    return (f"{param}: {text}" if param else text), param


def _unknown(name: str, fields: type[BaseModel] | None) -> str:
    known = () if fields is None else fields.model_fields
    if (meant := _meant(name, known)) is not None:
        return f"unknown field {shown(name)}; use {meant}"
    if fields is not ChangeFields:
        return f"unknown field {shown(name)}"
    what = f"{name} of a job cannot be changed" if name in EditFields.model_fields else f"unknown field {shown(name)}"
    return f"{what}; what can be, while it waits: {', '.join(known)}"


def _meant(name: str, known: Collection[str]) -> str | None:
    """The field that is meant by another name, or the one with the nearest name."""
    said = MEANT.get(name)
    while said is not None and said.partition(",")[0] not in known:
        said = MEANT.get(said)
    return said or next(iter(get_close_matches(name, known, 1, cutoff=0.75)), None)


def validation_error(error: ValidationError, fields: type[BaseModel]) -> ApiError:
    """The answer for what does not fit these fields."""
    message, param = first_fault(error.errors(), fields)
    return invalid(message, param)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(error.status, error.message, error.code, error.param, error.headers)


async def _queue_full(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueFull)
    headers = {"Retry-After": str(round(error.retry_after))}
    return error_response(429, error.message, error.code, headers=headers)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if (unread := _unread_body(request, error)) is not None:
        return await _api_error(request, unread)
    body = getattr(request.scope["route"], "body_field", None)
    message, param = first_fault(error.errors(), None if body is None else body.field_info.annotation)
    return error_response(400, message, "invalid_value", param)


def _unread_body(request: Request, error: RequestValidationError) -> ApiError | None:
    """What is wrong with a body as a whole; None where its fields are, or something else."""
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return no_json(error.__cause__)
    if fault["loc"] != ("body",):
        return None
    return wrong_kind(request.headers.get("content-type", "")) if isinstance(error.body, bytes) else no_object()


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):  # what the guard said while FastAPI read the body
        return await _api_error(request, error.__cause__)
    if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):  # FastAPI reads a body
        return await _api_error(request, no_json(error.__cause__))
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    headers = {"Allow": _allowed(request, error)} if error.status_code == 405 else error.headers
    return error_response(error.status_code, str(error.detail), codes.get(error.status_code), headers=headers)


def _allowed(request: Request, error: HTTPException) -> str:
    """The methods of the request's path; of routes that the description leaves out, those that Starlette names.

    A path as it is written goes before one with a name in it: /v1/studio/clips/trash is no clip.
    """
    documented = request.app.state.methods
    route = getattr(request.scope.get("route"), "path", "")
    methods = documented.get(request.scope["path"]) or documented.get(route)
    return ", ".join(sorted(methods or (error.headers or {}).get("Allow", "").split(", ")))


async def _database(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)
    if isinstance(error, DataError):
        return error_response(400, "a value holds what the database cannot hold, such as a NUL", "invalid_value")
    if not is_unreachable(error):
        logger.error("the database cannot be used: %s", type(error).__name__)
    message = f"{reason_of(error)} at the moment; try again"
    return error_response(503, message, "database_unavailable", headers={"Retry-After": "2"})


async def _store(request: Request, error: Exception) -> JSONResponse:
    logger.error("the store cannot be used: %s", without_paths(str(error), "", {}))
    message = "the store of files cannot be used at the moment; try again"
    return error_response(503, message, "storage_unavailable", headers={"Retry-After": "10"})


async def _not_done(request: Request, error: Exception) -> JSONResponse:
    return error_response(503, str(error), "not_done", headers={"Retry-After": "5"})


async def _system(request: Request, error: Exception) -> JSONResponse:
    return await (_store if is_disk_error(error) else _unexpected)(request, error)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return error_response(400, str(error), "invalid_value")


async def _hung_up(request: Request, error: Exception) -> JSONResponse:
    """Nobody reads the answer; it is counted as the client's doing."""
    return error_response(400, "the connection was closed in the middle of the body", "client_disconnected")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("an unexpected error", exc_info=error)
    return error_response(500, "an unexpected error; the server's log says more", "internal_error")
