"""Clients that nobody changed and that need other versions than ours: each lives in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving_processes import Servers
from tests.unit.serving_helpers import new_database

from phonofilm.serving.settings import WorkerSettings

pytestmark = pytest.mark.slow

LITELLM = """
import json, sys, time
from importlib.metadata import version
import litellm

place = {"api_base": sys.argv[1] + "/v1", "api_key": "any"}
video = litellm.video_generation(prompt="A red ball bounces.", model="openai/nano", seconds="2", **place)
def state():
    return litellm.video_status(video_id=video.id, **place)
while (now := state()).status not in ("completed", "failed"):
    time.sleep(0.2)
content = litellm.video_content(video_id=video.id, **place)
again = litellm.video_remix(video_id=video.id, prompt="A blue ball.", **place)
listed = litellm.video_list(custom_llm_provider="openai", **place)
print(json.dumps([version("litellm"), now.status, content.decode(), again.id != video.id, len(listed) > 0]))
"""

OPENAI = """
import json, sys
from importlib.metadata import version
import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any", max_retries=0)
video = client.videos.create_and_poll(prompt="A red ball bounces.", seconds="2", extra_body={"seed": 3})
content = client.videos.download_content(video.id).read()
again = client.videos.remix(video.id, prompt="A blue ball.")
listed = [one.id for one in client.videos.list(limit=2)]
refused = None
try:
    client.videos.create(prompt="x", size="33x32")
except openai.BadRequestError as error:
    refused = error.body["param"]
deleted = client.videos.delete(again.id).deleted
print(json.dumps([
    version("openai"), video.status, content.decode(), again.id != video.id, again.id in listed and deleted, refused,
]))
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    settings = WorkerSettings(
        models={"nano": "nano"}, database_url=str(new_database(tmp_path).url), store=str(tmp_path / "files")
    )
    servers = Servers(settings)
    yield f"http://127.0.0.1:{servers.port}"
    servers.stop()


def run_with(package: str, script: str, url: str, folder: Path) -> list[Any]:
    """What the script prints last, run where only this package is installed."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "-q", package], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"{package} cannot be installed here: {installed.stderr.strip()[-200:]}")
    done = subprocess.run(
        [python, "-c", script, url],
        env={**os.environ, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer: list[Any] = json.loads(done.stdout.splitlines()[-1])
    print(package, "is", answer[0])  # noqa: T201 - the figure that a run by hand reports
    return answer[1:]


def test_litellm_makes_follows_fetches_remixes_and_lists(url: str, tmp_path: Path) -> None:
    status, content, is_new, is_listed = run_with("litellm>=1.83", LITELLM, url, tmp_path)
    assert (status, content.startswith("a clip"), is_new, is_listed) == ("completed", True, True, True)


@pytest.mark.parametrize("package", ["openai<3", "openai>=3"])
def test_the_openai_package_of_both_generations_makes_fetches_remixes_lists_and_deletes(
    package: str, url: str, tmp_path: Path
) -> None:
    status, content, is_new, is_listed, refused = run_with(package, OPENAI, url, tmp_path)
    assert (status, content.startswith("a clip"), is_new, is_listed) == ("completed", True, True, True)
    assert refused == "width"
