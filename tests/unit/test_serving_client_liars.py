"""A server that was misnamed, or means harm: it names no file here, gets no key by a redirect, and ends every wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.http_stub import StubHandler, listening
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.serving.client import ServerClient, ServerError, client_from

MP4 = b"\0\0\0\x18ftypisom and the rest"
JOB = {"id": "video_1", "status": "completed", "progress": 100}
Answer = Callable[[str], tuple[int, Any, dict[str, str]]]


@contextmanager
def lying(answer: Answer) -> Iterator[str]:
    class Server(StubHandler):
        def do_GET(self) -> None:
            self.reply(*answer(self.path))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(*answer(self.path))

    with listening(Server) as url:
        yield url


def of_a_job(job: Any, content: bytes = MP4) -> Answer:
    return lambda path: (200, content if path.partition("?")[0].endswith("/content") else job, {})


@pytest.mark.parametrize(
    "job",
    [
        {},
        {**JOB, "id": "../../up"},
        {**JOB, "id": "a/b"},
        {**JOB, "id": "\x1b]0;title\x07"},
        {**JOB, "id": 5},
        {**JOB, "id": "video_2"},
        {**JOB, "status": "banana"},
        {**JOB, "status": None},
        {**JOB, "progress": "x"},
        {**JOB, "num_outputs": 10**9},
        {**JOB, "num_outputs": 0},
        {**JOB, "expires_at": "soon"},
        {**JOB, "stage": ["a"]},
        {**JOB, "prompt": 7},
        {**JOB, "error": [1]},
        {**JOB, "warnings": "none"},
        {**JOB, "warnings": [1]},
        [JOB],
    ],
)
def test_an_answer_that_is_no_job_is_refused(job: Any, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    with lying(of_a_job(job)) as url:
        for command in (["fetch", "video_1", "-o", f"{folder}/"], ["wait", "video_1"], ["status", "video_1"]):
            ended = CliRunner().invoke(app, [*command, "--server", url])
            assert ended.exit_code == 1, (command, ended.output)
            assert "the server's answer cannot be read" in " ".join(ended.output.split())
    assert not list(tmp_path.rglob("*.mp4"))


@pytest.mark.parametrize("answer", [{}, {**JOB, "id": "../up"}, {**JOB, "id": 5}])
def test_a_new_job_without_a_name_of_its_own_is_refused(answer: Any, tmp_path: Path) -> None:
    with lying(of_a_job(answer)) as url, pytest.raises(ServerError, match="no id of a job"):
        ServerClient(url, tries=1).submit({"prompt": "A lamp."}, {})


def test_what_servers_of_this_dialect_leave_out_is_no_fault() -> None:
    for left, said in (
        ({"status": "failed", "error": "no memory"}, "failed 0 %: no memory"),
        (JOB, "completed 100 %"),
    ):
        with lying(of_a_job({"id": "video_1", **left})) as url:
            ended = CliRunner().invoke(app, ["status", "video_1", "--server", url])
        assert (ended.exit_code, ended.stdout.strip()) == (0, f"video_1 {said}")


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>", b'{"error": "x"}', b"\0\0\0\x18"])
def test_what_is_no_mp4_is_not_kept(content: bytes, tmp_path: Path) -> None:
    with lying(of_a_job(JOB, content)) as url, pytest.raises(ServerError, match="video_1 is no mp4"):
        ServerClient(url, tries=1).fetch("video_1", tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phonofilm.serving.client.MOST_ANSWER", 1000)
    said = "the server's answer is longer than 1,000 bytes"
    with lying(of_a_job(b" " * 1001)) as url:
        client = ServerClient(url, tries=1)
        for ask in (
            lambda: client.video("video_1"),
            lambda: client.wait("video_1", print),
            lambda: list(client.list()),
        ):
            with pytest.raises(ServerError, match=said):
                ask()
    with lying(of_a_job(json.dumps(JOB).encode().ljust(1000))) as url:
        assert ServerClient(url, tries=1).video("video_1")["status"] == "completed"


def test_an_answer_that_is_cut_off_says_so() -> None:
    with (
        lying(lambda path: (200, b"{", {"Transfer-Encoding": "chunked"})) as url,
        pytest.raises(ServerError, match="the server broke off in the middle of its answer"),
    ):
        ServerClient(url, tries=1).video("video_1")


def test_no_redirect_gets_the_key() -> None:
    asked: list[str] = []

    class Elsewhere(StubHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.reply(200, JOB)

    with (
        listening(Elsewhere) as elsewhere,
        lying(lambda path: (302, b"", {"Location": elsewhere + path})) as url,
        pytest.raises(ServerError, match=f"redirects to {elsewhere}"),
    ):
        ServerClient(url, key="secret", tries=1).video("video_1")
    assert asked == []


def test_a_list_without_end_and_one_that_is_none_are_given_up() -> None:
    with lying(lambda path: (200, {"data": [JOB], "has_more": True}, {})) as url:
        listed = ServerClient(url, tries=1).list()
        assert next(listed)["id"] == "video_1"
        with pytest.raises(ServerError, match="its next page is the one before"):
            list(listed)
    for data in (None, [5], {"a": 1}):
        answer = {"data": data}
        with lying(lambda path, answer=answer: (200, answer, {})) as url, pytest.raises(ServerError, match="no list"):
            list(ServerClient(url, tries=1).list())


@pytest.mark.parametrize(("key", "said"), [(None, "wants a key, and was given none"), ("k", "does not know the key")])
def test_who_has_no_key_reads_how_to_give_one(key: str | None, said: str) -> None:
    with (
        lying(lambda path: (401, {"error": {"message": "no"}}, {})) as url,
        pytest.raises(ServerError, match=said) as it,
    ):
        ServerClient(url, key=key, tries=1).video("video_1")
    assert "--key, or PHONOFILM_API_KEY" in str(it.value)
    assert url not in str(it.value), "clients of a server read what its engine says"


def test_a_key_that_is_none_is_not_shown() -> None:
    with pytest.raises(ValueError, match="the key holds") as refused:
        client_from(None, "secret\r\nX: y")
    assert "secret" not in str(refused.value)
