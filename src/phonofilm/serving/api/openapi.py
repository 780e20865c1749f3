"""What FastAPI cannot see for itself: bodies that may be JSON or a form, and the links from one answer to the next request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phonofilm.serving.api.examples import Example
from phonofilm.serving.api.fields import VideoFields
from phonofilm.serving.api.objects import VideoObject

BINARY = {"type": "string", "format": "binary"}
EXAMPLE = {
    "prompt": "A red ball bounces on a wooden floor.",
    "seconds": 2,
    "size": "64x64",
    "num_inference_steps": 4,
    "seed": 1,
}


def body_of(
    fields: type[VideoFields], files: Mapping[str, str], example: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The request body as OpenAPI: the same fields as JSON, and as a form in which media are files."""
    schema = fields.model_json_schema()
    form = {**schema, "properties": {name: _without_null(one) for name, one in schema["properties"].items()}}
    for name in files:
        form["properties"][name] = BINARY
    form["properties"]["keyframes"] = {"type": "object", "additionalProperties": BINARY}
    shown = {**EXAMPLE, **(example or {})}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": shown},
                "multipart/form-data": {"schema": form},
            },
        }
    }


def form_of_files(files: Mapping[str, Any]) -> dict[str, Any]:
    """A form of nothing but files, by field name, as OpenAPI; each has to be there."""
    schema = {"type": "object", "properties": dict(files), "required": list(files)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def add_examples(described: dict[str, Any], examples: Mapping[str, Example]) -> None:
    """Put the routes' examples into a description of the API, beside the schemas of their bodies and answers."""
    for operation in (one for methods in described["paths"].values() for one in methods.values()):
        example = examples.get(operation["operationId"], Example())
        if example.request is not None:
            operation["requestBody"]["content"]["application/json"]["example"] = example.request
        if example.answer is not None:
            operation["responses"]["200"]["content"]["application/json"]["example"] = example.answer


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A form has texts and files; what is not given is left out."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    return {**rest, **({"anyOf": kinds} if len(kinds) > 1 else kinds[0] if kinds else {})}


def video_links() -> dict[str, Any]:
    """A job's answer, and what can be asked with its id."""
    parameters = {"video_id": "$response.body#/id"}
    operations = ("getVideo", "getVideoContent", "cancelVideo", "deleteVideo", "remixVideo", "changeVideo")
    return {
        "model": VideoObject,
        "description": "The job.",
        "headers": {
            "openai-poll-after-ms": {
                "description": "Milliseconds after which asking again may show something new.",
                "schema": {"type": "integer"},
            }
        },
        "links": {name: {"operationId": name, "parameters": parameters} for name in operations},
    }
