"""LiteLLM, unmodified, as a client. It needs other versions than ours, so it lives in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving_processes import Servers
from tests.unit.serving_helpers import new_database

from phonofilm.serving.settings import WorkerSettings

SCRIPT = """
import json, sys, time
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
print(json.dumps([now.status, content.decode(), again.id != video.id, len(listed) > 0]))
"""


@pytest.mark.slow
def test_litellm_makes_follows_fetches_remixes_and_lists(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "litellm>=1.83"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"LiteLLM cannot be installed here: {installed.stderr.strip()[-200:]}")
    database = new_database(tmp_path)
    settings = WorkerSettings(models={"nano": "nano"}, database_url=str(database.url), store=str(tmp_path / "files"))
    servers = Servers(settings)
    try:
        done = subprocess.run(
            [python, "-c", SCRIPT, f"http://127.0.0.1:{servers.port}"],
            env={**os.environ, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    finally:
        servers.stop()
    assert done.returncode == 0, done.stderr[-2000:]
    status, content, is_new, is_listed = json.loads(done.stdout.splitlines()[-1])
    assert (status, content.startswith("a clip"), is_new, is_listed) == ("completed", True, True, True)
