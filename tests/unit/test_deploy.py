"""The files in deploy/ say what the program understands; the image itself is built by `make image-check`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import yaml
from typer.main import get_command

from phonofilm.cli.main import app
from phonofilm.serving.settings import WorkerSettings

DEPLOY = Path(__file__).parents[2] / "deploy"


def options_of_serve() -> set[str]:
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {name for parameter in serve.params for name in parameter.opts}


def check_command(words: list[str]) -> None:
    assert words[0] == "serve"
    assert {word for word in words if word.startswith("--")} <= options_of_serve()


def test_the_image_starts_a_server_with_options_that_exist() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    check_command(json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[0]))
    assert "USER phonofilm" in text
    copied = re.findall(r"^COPY (.*) \./(?:src)?$", text, re.MULTILINE)
    taken = (DEPLOY.parent / ".dockerignore").read_text(encoding="utf-8")
    for name in " ".join(copied).split():
        assert (DEPLOY.parent / name).exists()
        assert f"!{name}\n" in taken


def test_compose_gives_a_running_clip_its_time_and_no_default_password() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    check_command(services["server"]["command"])
    assert services["server"]["environment"]["PHONOFILM_DATABASE_URL"].startswith(
        "postgresql://phonofilm:${POSTGRES_PASSWORD:?"
    )
    assert int(services["server"]["stop_grace_period"].rstrip("s")) > WorkerSettings({}).grace
    assert services["server"]["ports"] == ["127.0.0.1:8000:8000"]


def test_the_unit_lets_the_server_stop_its_workers_itself() -> None:
    lines = (DEPLOY / "phonofilm.service").read_text(encoding="utf-8").splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith(("#", "[")))
    assert unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > WorkerSettings({}).grace + 15
    program, *words = shlex.split(unit["ExecStart"])
    assert program.endswith("/phonofilm")
    check_command([word for word in words if not word.startswith("$")])
