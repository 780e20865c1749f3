"""What the operator sets for callbacks: the secret that they are signed with."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.serving.security.callback_signing import CALLBACK_SECRET, signing_key

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
