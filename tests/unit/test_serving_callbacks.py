"""What the operator sets for callbacks: the secret that they are signed with, and receivers that are private."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.serving_helpers import ask, client_of, new_database, services_in
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.serving.callbacks import Callbacks
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.security.callback_hosts import CALLBACK_HOSTS, hosts_from_environment
from phonofilm.serving.security.callback_signing import CALLBACK_SECRET, signing_key
from phonofilm.serving.security.public_http import PublicHttp, RefusedAddress

KEY = b"0123456789abcdef"


def test_a_secret_is_base64_after_its_prefix_and_else_the_text_as_it_is() -> None:
    assert signing_key("whsec_" + base64.b64encode(KEY).decode()) == KEY
    assert signing_key("0123456789abcdef") == KEY
    assert signing_key("p\u00e4ssword p\u00e4ssword") == "p\u00e4ssword p\u00e4ssword".encode()


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "callbacks are signed: set PHONOFILM_CALLBACK_SECRET to 16 characters or more"),
        ("short", "to 16 characters or more"),
        ("whsec_----------", "the rest is no base64"),
        ("whsec_not base64, but long enough", "the rest is no base64"),
        ("whsec_MDEyMzQ1Njc4OWFiY2RlZg", "the rest is no base64"),  # without its padding
        ("whsec_\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", "the rest is no base64"),
        ("whsec_" + base64.b64encode(KEY[1:]).decode(), "holds 15 bytes"),
        ("whsec_", "holds 0 bytes"),
    ],
)
def test_a_bad_secret_ends_the_server_before_it_does_anything(
    secret: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=reason):
        signing_key(secret)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CALLBACK_SECRET, secret)
    result = CliRunner().invoke(app, ["serve", "--allow-callbacks", "--port", "0"])
    assert result.exit_code == 2
    assert reason in " ".join(result.output.split())
    assert len(secret) <= 6 or secret not in result.output
    assert list(tmp_path.iterdir()) == [], "no database, no store"


def test_the_operators_hosts_are_allowed_and_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CALLBACK_HOSTS, "127.0.0.1:9000, Hooks.lan [::1]:81")
    hosts = hosts_from_environment()
    assert hosts == {("127.0.0.1", 9000), ("hooks.lan", 80), ("hooks.lan", 443), ("::1", 81)}
    services = services_in(tmp_path)
    services.api = replace(services.api, allow_callbacks=True, callback_hosts=hosts)
    client = client_of(services)
    good = (
        "http://127.0.0.1:9000/x",
        "https://hooks.lan/x",
        "http://HOOKS.LAN:80/x",
        "http://[::1]:81/",
        "https://a.example.org",
    )
    bad = (
        "http://127.0.0.1/x",
        "http://127.0.0.1:9001/x",
        "http://a.hooks.lan/x",
        "http://hooks.lan:81/",
        "http://[::1]/",
    )
    more = (
        "http://127.0.0.1:9000@10.0.0.1/",
        "ftp://127.0.0.1:9000/",
        "http://127.1:9000/",
        "http://example.org:9000/",
    )
    for status, urls in ((200, good), (400, (*bad, *more))):
        for url in urls:
            assert client.post("/v1/videos", json={"prompt": "a", "callback_url": url}).status_code == status, url
    with pytest.raises(RefusedAddress):
        PublicHttp().check("http://127.0.0.1:9000/x")


@pytest.mark.parametrize(
    "text", ["http://hooks.lan", "hooks.lan/x", "hooks.lan:x", "::1", "a@hooks.lan", ":80", "hooks.lan:"]
)
def test_an_entry_that_is_no_host_ends_the_server(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CALLBACK_HOSTS, text)
    result = CliRunner().invoke(app, ["serve", "--port", "0"])
    assert result.exit_code == 2
    assert "is no HOST or HOST:PORT" in result.output
    assert list(tmp_path.iterdir()) == []


SECRET = "whsec_" + base64.b64encode(KEY).decode()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The receiver of the docs, on a free port."""
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "webhook-" in one]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "receiver.py").write_text(code.replace("9000", str(port)))
    words = [sys.executable, str(tmp_path / "receiver.py")]
    environment = {**os.environ, CALLBACK_SECRET: SECRET}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        while process.poll() is None:
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield process, port
        process.kill()


def test_the_receiver_of_the_docs_verifies_what_is_sent(
    receiver: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = receiver
    url = f"http://127.0.0.1:{port}/hook"
    forged = urllib.request.Request(
        url, b"{}", {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    )
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(forged)
    database = new_database(tmp_path)
    job = ask(database)
    with database.write() as connection:
        connection.execute(JOB.update().values(callback_url=url, callback_due=1.0, status="completed"))
    web = PublicHttp(trusted=frozenset({("127.0.0.1", port)}))
    assert Callbacks(database, signing_key(SECRET), web).send_due() == 1
    assert process.stdout is not None
    assert process.stdout.readline() == f"video.completed {job.id}\n"
