"""Reading a request's body: JSON, a multipart form or a plain one, into fields and uploads. What they mean is elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from phonofilm.serving.api.errors import MAX_VALUES, invalid, no_json, no_object, too_many_values, wrong_kind
from phonofilm.serving.api.fields import IGNORED, REFUSED
from phonofilm.untrusted import parse_json, shown

MAX_FILES, MAX_FIELDS, MAX_FIELD_BYTES = 8, 200, 2**20
# Texts that hold an object or a list where a form cannot.
_NESTED = ("extra_body", "video", "audio", "voice", "input_reference", "last_frame", "keyframes", "metadata")
_KEY = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")


@dataclass(frozen=True)
class RequestBody:
    """The fields and the files of a request (a keyframe's as keyframes[SECONDS]), and what the answer says was ignored."""

    fields: dict[str, Any]
    uploads: dict[str, UploadFile]
    warnings: list[str]

    def digest(self) -> str:
        """SHA-256 of everything that was sent, to tell one request from another."""
        digest = hashlib.sha256(json.dumps(self.fields, sort_keys=True, default=str).encode())
        for name, upload in sorted(self.uploads.items()):
            digest.update(name.encode())
            upload.file.seek(0)
            while piece := upload.file.read(2**20):
                digest.update(piece)
            upload.file.seek(0)
        return digest.hexdigest()


async def read_body(request: Request) -> RequestBody:
    """Raises ApiError (400, 415) for a body that cannot be read, or for a field that this server refuses."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        try:
            form = await read_form(request, MAX_FILES, MAX_FIELDS, MAX_FIELD_BYTES)
        except (MultiPartException, HTTPException) as error:
            reason = error.message if isinstance(error, MultiPartException) else error.detail
            raise invalid(f"the form cannot be read: {shown(reason)}") from None
        return _cleaned(*_of_form(form))
    if kind not in ("application/json", ""):
        raise wrong_kind(kind)
    return _cleaned(await read_object(request), {})


class _WholeForms(MultiPartParser):
    """Starlette's parser, which notices whether the closing boundary came, and takes no other text for Latin-1."""

    has_ended = False

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None:
            _decoded(part.field_name, lambda: part.data.decode(self._charset))
        super().on_part_end()

    def on_end(self) -> None:
        self.has_ended = True


class _PlainForms(FormParser):
    """Starlette's parser of a plain form, with text in UTF-8 whether it is written as %C3%A4 or as it is."""

    def on_field_end(self) -> None:
        super().on_field_end()
        name, value = self._field_name, self._field_value
        key = _decoded("a field's name", lambda: unquote_plus(name.decode(), errors="strict"))
        self._items[-1] = (key, _decoded(key, lambda: unquote_plus(value.decode(), errors="strict")))


def _decoded(name: str, decode: Callable[[], str]) -> str:
    try:
        return decode()
    except (UnicodeError, LookupError):
        raise MultiPartException(f"{shown(name)} is no text in UTF-8, or in the charset that the form names") from None


async def read_form(request: Request, max_files: int, max_fields: int, max_field_bytes: int) -> FormData:
    """The parts of a multipart or plain form.

    Raises MultiPartException and HTTPException for one that cannot be read, and for a multipart body without its closing
    boundary: it was cut off on its way, and its last part with it.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        plain = _PlainForms(request.headers, request.stream(), max_fields=max_fields, max_part_size=max_field_bytes)
        return await plain.parse()
    parser = _WholeForms(
        request.headers,
        request.stream(),
        max_files=max_files,
        max_fields=max_fields,
        max_part_size=max_field_bytes,
    )
    form = await parser.parse()
    if not parser.has_ended:
        await form.close()
        raise MultiPartException("it has no closing boundary, so its end was lost on the way; send it again")
    return form


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in a body. Raises ApiError for anything else."""
    try:
        content = parse_json(await request.body())
    except (ValueError, UnicodeDecodeError) as error:
        raise no_json(error) from None
    if not isinstance(content, dict):
        raise no_object()
    return content


def _of_form(form: FormData) -> tuple[dict[str, Any], dict[str, UploadFile]]:
    fields: dict[str, Any] = {}
    uploads: dict[str, UploadFile] = {}
    for key, value in form.multi_items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise invalid(f"the field name {shown(key)} cannot be read" if key else "a field of the form has no name")
        name, inner = match[1], match[2]
        if isinstance(value, UploadFile):
            name = key if name == "keyframes" else name
            if name in uploads:
                raise invalid(f"{shown(name)}: one file is expected", shown(name))
            uploads[name] = value
        elif inner:
            group = fields.setdefault(name, {})
            if not isinstance(group, dict):
                raise invalid(f"{shown(name)} is given twice", shown(name))
            group[inner] = value
        elif inner == "" or name in fields:
            before = fields.get(name, [])
            fields[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            fields[name] = value
    # A form on a page sends its empty fields too, which were left out; an empty prompt is for its validation to name.
    given = {name: value for name, value in fields.items() if value != "" or name == "prompt"}
    return {name: _nested(name, value) for name, value in given.items()}, uploads


def _nested(name: str, value: Any) -> Any:
    if name not in _NESTED or not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    if value.count(",") > MAX_VALUES:
        raise too_many_values(name, name)
    try:
        return parse_json(value)
    except ValueError as error:
        raise invalid(f"{name} is no JSON: {shown(error)}", name) from None


def _cleaned(fields: dict[str, Any], uploads: dict[str, UploadFile]) -> RequestBody:
    """The fields with those of `extra_body` beside them, without nulls, and without those that are known to mean nothing."""
    extra = fields.pop("extra_body", None) or {}
    if not isinstance(extra, dict):
        raise invalid("extra_body must be an object", "extra_body")
    flat = {name: value for name, value in {**extra, **fields}.items() if value is not None}
    warnings = []
    for name, reason in REFUSED.items():
        if flat.get(name) not in (None, False, "false", "False", 0, "0", {}):
            raise invalid(f"{name}: {reason}", name, code="unsupported_parameter")
        flat.pop(name, None)
    for name, reason in IGNORED.items():
        if name in flat:
            del flat[name]
            warnings.append(f"{name} is ignored: {reason}")
    return RequestBody(flat, uploads, warnings)
