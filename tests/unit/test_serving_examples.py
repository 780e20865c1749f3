"""The description of the API has, for every route, an example of what is sent and of what comes back, and it is a true one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from tests.unit.serving_helpers import services_in

from phonofilm.serving.api.app import create_api
from phonofilm.serving.api.examples import EXAMPLES
from phonofilm.serving.studio.examples import STUDIO_EXAMPLES

SHOWN = {**EXAMPLES, **STUDIO_EXAMPLES}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_api(services_in(tmp_path_factory.mktemp("serving")))


@pytest.fixture(scope="module")
def described(api: FastAPI) -> dict[str, Any]:
    return dict(api.openapi())


def routes_of(api: FastAPI) -> dict[str | None, APIRoute]:
    """By operation id; an included router keeps its routes to itself."""
    groups = [getattr(one, "original_router", None) for one in api.routes]
    routes = [*api.routes, *(route for group in groups if group is not None for route in group.routes)]
    return {one.operation_id: one for one in routes if isinstance(one, APIRoute)}


def operations_of(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_shows_what_is_sent_and_what_comes_back(described: dict[str, Any]) -> None:
    lacking = []
    for name, operation in operations_of(described):
        body = operation.get("requestBody", {}).get("content", {})
        if "application/json" in body and "example" not in body["application/json"]:
            lacking.append(f"{name}: its body")
        for code, answer in operation["responses"].items():
            if not code.startswith("2"):
                continue
            content = answer.get("content", {})
            if "application/json" in content and "example" not in content["application/json"]:
                lacking.append(f"{name}: its answer {code}")
            if "application/json" not in content and answer["description"] in ("", "Successful Response"):
                lacking.append(f"{name}: words for its answer {code}")
            if code == "200" and not content:
                lacking.append(f"{name}: the kind of its answer")
    assert lacking == []


def test_every_example_belongs_to_a_route(described: dict[str, Any]) -> None:
    assert SHOWN.keys() <= {operation["operationId"] for _, operation in operations_of(described)}


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_is_what_the_route_takes_and_answers(name: str, api: FastAPI) -> None:
    route, shown = routes_of(api)[name], SHOWN[name]
    if shown.request is not None:
        assert route.body_field is not None
        TypeAdapter(route.body_field.field_info.annotation).validate_python(shown.request, strict=False)
    if shown.answer is not None:
        kind = TypeAdapter(route.response_model)
        assert kind.dump_python(kind.validate_python(shown.answer), mode="json") == shown.answer
