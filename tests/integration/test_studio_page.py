"""The studio's page and who may use it: built files with their policy, keys, cookies, and pages of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp
from tests.unit.serving_helpers import client_of, services_in
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.serving import server
from phonofilm.serving.api.app import create_app
from phonofilm.serving.api.services import Services
from phonofilm.serving.security.api_keys import create_key, revoke_key
from phonofilm.serving.security.browser_sessions import COOKIE
from phonofilm.serving.server import ServerSettings
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.side_process import InThisProcess, P, T
from phonofilm.serving.studio import browser, page
from phonofilm.serving.studio.events import Event, events_of


class NoPlanner(InThisProcess):
    """A planner that has not come up yet."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        raise AssertionError(function)


OWN = {"Origin": "http://testserver"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """On a server without keys."""
    return client_of(services_in(tmp_path_factory.mktemp("open")))


@pytest.fixture(scope="module")
def keyed_app(tmp_path_factory: pytest.TempPathFactory) -> tuple[Services, ASGIApp]:
    services = services_in(tmp_path_factory.mktemp("keyed"))
    create_key(services.database, "first")
    return services, create_app(services)


@pytest.fixture
def keyed(keyed_app: tuple[Services, ASGIApp]) -> TestClient:
    """A browser of its own, on a server with keys."""
    return TestClient(keyed_app[1], raise_server_exceptions=False)


@pytest.fixture
def key(keyed_app: tuple[Services, ASGIApp], request: pytest.FixtureRequest) -> str:
    return create_key(keyed_app[0].database, request.node.name)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of a few bytes in the place of the built one."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Studio</title>")
    (folder / "assets" / "index-1a2b.js").write_text("export {}")
    (folder / "assets" / "secret.key").write_text("no")
    (tmp_path / "outside.js").write_text("no")
    monkeypatch.setattr(page, "BUILT", folder)
    return folder


def test_the_page_may_ask_this_server_and_nobody_else(client: TestClient, built: Path) -> None:
    answer = client.get("/studio")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; " in policy
    assert "http" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert client.get("/studio/").text == client.get("/", follow_redirects=True).text == answer.text
    script = client.get("/studio/assets/index-1a2b.js")
    assert (script.text, script.headers["content-type"]) == ("export {}", "text/javascript; charset=utf-8")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("*", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)
def test_the_pages_files_are_compressed_for_who_takes_that(
    client: TestClient, built: Path, accepted: str, packed: bool
) -> None:
    for path, text in (("/studio", "<!doctype html>"), ("/studio/assets/index-1a2b.js", "export {}")):
        answer = client.get(path, headers={"Accept-Encoding": accepted})
        assert answer.text.startswith(text)
        assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
        assert answer.headers["vary"] == "Accept-Encoding"
    (built / "assets" / "index-1a2b.js").write_text("export { changed }")
    assert (
        client.get("/studio/assets/index-1a2b.js", headers={"Accept-Encoding": accepted}).text == "export { changed }"
    )


def test_another_page_has_another_version(client: TestClient, built: Path) -> None:
    before = client.get("/v1/studio/info").json()["page"]
    (built / "index.html").write_text("<!doctype html><title>Studio</title><script src=new></script>")
    after = client.get("/v1/studio/info").json()["page"]
    assert len({before, after, None}) == 3
    (built / "index.html").unlink()
    assert client.get("/v1/studio/info").json()["page"] is None


def test_words_to_write_with_are_there_before_anything_is_planned(tmp_path: Path) -> None:
    """The planner imports PyTorch first: on a busy machine a newcomer would look at a form without prompts for a minute."""
    services = services_in(tmp_path)
    services.planner.close()
    services.planner = NoPlanner()
    found = client_of(services).get("/v1/studio/vocabulary").json()
    assert {"ball", "bounces", "xylophone"} <= set(found["words"])
    assert found["words"] == sorted(found["words"])
    assert all(prompt.endswith(".") for prompt in found["prompts"])


@pytest.mark.parametrize("name", ["assets/secret.key", "../outside.js", "%2e%2e/outside.js", "assets", "nothing.js"])
def test_nothing_but_the_pages_files_is_served(client: TestClient, built: Path, name: str) -> None:
    assert client.get(f"/studio/{name}").status_code == 404


def test_without_built_files_the_page_and_the_command_say_so(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "BUILT", tmp_path / "nowhere")
    error = client.get("/studio").json()["error"]
    assert (error["code"], error["message"]) == ("page_not_built", page.NOT_BUILT)
    done = CliRunner().invoke(app, ["studio", "--no-open"])
    assert done.exit_code == 2
    assert page.NOT_BUILT in done.output.replace("\n", " ")


def test_the_command_serves_this_machine_and_opens_the_page(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ServerSettings] = []
    opened: list[str] = []

    def serve(settings: ServerSettings, on_listening: object) -> int:
        started.append(settings)
        assert callable(on_listening)
        on_listening("http://127.0.0.1:8011")
        return 0

    monkeypatch.setattr(server, "serve_until_stopped", serve)
    monkeypatch.setattr(browser, "open_browser", opened.append)
    done = CliRunner().invoke(app, ["studio", "--port", "8011", "--model", "nano"])
    assert done.exit_code == 0, done.output
    assert "the studio is at http://127.0.0.1:8011/studio" in done.output
    assert opened == ["http://127.0.0.1:8011/studio"]
    (settings,) = started
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8011, 1)
    assert (settings.worker.models, settings.worker.keep) == ({"nano": "nano"}, None)
    CliRunner().invoke(app, ["studio", "--port", "0", "--no-open", "--keep", "7d"])
    assert len(opened) == 1
    assert started[1].worker.keep == WorkerSettings.keep


def test_on_a_server_of_ones_own_nobody_signs_in(client: TestClient) -> None:
    state = client.get("/studio/session").json()
    assert state == {
        "needs_key": False, "signed_in": True, "can_read": True, "can_write": True, "can_administer": True,
    }  # fmt: skip
    assert "set-cookie" not in client.post("/studio/session", json={"key": "any"}, headers=OWN).headers


def test_a_cookie_stands_for_the_key_until_it_is_revoked(
    keyed: TestClient, keyed_app: tuple[Services, ASGIApp], key: str, request: pytest.FixtureRequest
) -> None:
    assert keyed.get("/studio/session").json() == {
        "needs_key": True, "signed_in": False, "can_read": False, "can_write": False, "can_administer": False,
    }  # fmt: skip
    wrong = keyed.post("/studio/session", json={"key": key[:-1]})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    answer = keyed.post("/studio/session", json={"key": f" {key}\n"}, headers=OWN)
    assert answer.json()["can_write"]
    assert not answer.json()["can_administer"]
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in (f"{COOKIE}=", "HttpOnly", "SameSite=strict", "Path=/"))
    assert key not in cookie
    assert keyed.get("/v1/videos").status_code == 200
    assert keyed.post("/v1/videos", json={"prompt": "a ball"}, headers=OWN).status_code == 200
    assert keyed.get("/metrics").status_code == 403
    revoke_key(keyed_app[0].database, request.node.name)
    assert keyed.get("/v1/videos").status_code == 401


def test_the_stream_of_events_ends_when_the_key_is_revoked(
    keyed_app: tuple[Services, ASGIApp], key: str, request: pytest.FixtureRequest
) -> None:
    services, _ = keyed_app
    admitted = services.keyring.look_up(key)
    assert admitted is not None

    async def follow() -> list[Event]:
        stream = events_of(services, admitted.access, key, None)
        first = await anext(stream)
        revoke_key(services.database, request.node.name)
        services.keyring.forget()
        return [first, *[event async for event in stream]]

    events = asyncio.run(asyncio.wait_for(follow(), 60))
    assert events[0]["event"] == "jobs"


def test_a_session_ends_when_one_signs_out(keyed: TestClient, key: str) -> None:
    keyed.post("/studio/session", json={"key": key}, headers=OWN)
    kept = keyed.cookies[COOKIE]
    assert not keyed.delete("/studio/session", headers=OWN).json()["signed_in"]
    keyed.cookies.set(COOKIE, kept)
    assert keyed.get("/v1/videos").status_code == 401


def test_pages_of_others_cannot_use_the_cookie(keyed: TestClient, key: str) -> None:
    keyed.post("/studio/session", json={"key": key}, headers=OWN)
    for headers in (
        {},
        {"Origin": "http://testserver:8001"},
        {"Origin": "null"},
        {**OWN, "Sec-Fetch-Site": "same-site"},
    ):
        answer = keyed.post("/v1/videos", json={"prompt": "a ball"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed"), headers
    assert keyed.get("/v1/videos", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
