"""Promise 4 through the command line: a malformed file is one line on stderr and exit code 1 or 2, never a traceback.

What each reader refuses, and how fast, is in the other files of this promise.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.integration.cli import CHECKPOINT, TINY
from tests.unit.checkpoints import copy_golden
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.training.checkpointing.run_lock import LOCK, run_lock
from phonofilm.training.task.latent_dataset import LatentDataset

Write = Callable[[Path], object]

DEEP = "[" * 100_000
MALFORMED: dict[str, Write] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "text": lambda path: path.write_text("hello \x1b[31m\n" * 20),
    "deep JSON": lambda path: path.write_text(DEEP),
    "long integer": lambda path: path.write_text('{"prompt": ' + "9" * 5000 + "}"),
    "a zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(200)),
    "a header without end": lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{"),
    "no UTF-8": lambda path: path.write_bytes(b'{"prompt": "\xff\xfe"}'),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "image.png": ("generate", *TINY, "-m", str(CHECKPOINT), "-o", "o.mp4", "--image", "image.png"),
    "clip.mp4": ("generate", *TINY, "-m", str(CHECKPOINT), "-o", "o.mp4", "--video", "clip.mp4"),
    "on.webm": ("generate", *TINY, "-m", str(CHECKPOINT), "-o", "o.mp4", "--continue-from", "on.webm"),
    "sound.wav": ("generate", *TINY, "-m", str(CHECKPOINT), "-o", "o.mp4", "--audio", "sound.wav"),
    "like.mp4": ("generate", "-m", str(CHECKPOINT), "-o", "o.mp4", "--like", "like.mp4"),
    "like.safetensors": ("generate", "-m", str(CHECKPOINT), "-o", "o.mp4", "--like", "like.safetensors"),
    "lora.safetensors": ("generate", *TINY, "-m", str(CHECKPOINT), "-o", "o.mp4", "--lora", "lora.safetensors"),
    "lora.pt": ("lora", "inspect", "lora.pt"),
    "prompts.jsonl": ("generate", "-m", str(CHECKPOINT), "--prompts", "prompts.jsonl"),
    "seen.mp4": ("inspect", "seen.mp4"),
    "seen.png": ("inspect", "seen.png"),
    "manifest.json": ("data", "doctor", "manifest.json"),
    "manifest.csv": ("data", "doctor", "manifest.csv"),
    "sets.yaml": ("data", "doctor", "sets.yaml"),
    "config.yaml": ("train", "--config", "config.yaml", "-o", "run"),
    "model_index.json": ("plan", "-m", "."),
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_malformed_file_is_one_line(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    MALFORMED[kind](Path(name))
    done = CliRunner().invoke(app, list(COMMANDS[name]))
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code in (1, 2), done.output
    assert len(errors) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == errors[0]
    assert "Traceback" not in done.output
    assert "unexpected" not in errors[0]
    assert "\x1b" not in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("name", ["meta.json", "video.npy", "audio.npy", "empty_tokens.npy"])
def test_a_malformed_cache_is_one_line(name: str, kind: str, tmp_path: Path) -> None:
    for array in ("video", "condition", "audio", "tokens", "lengths", "white", "empty_tokens"):
        np.save(tmp_path / f"{array}.npy", np.zeros((1, 2, 1, 2, 2), np.float16))
    (tmp_path / "meta.json").write_text(json.dumps({"frame_rate": 24.0}))
    LatentDataset(tmp_path)
    MALFORMED[kind](tmp_path / name)
    with pytest.raises(InputError, match=name) as caught:
        LatentDataset(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_lock_is_a_leftover(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phonofilm.process.lock_file.GRACE", 0.0)
    MALFORMED[kind](tmp_path / LOCK)
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"]
    assert not (tmp_path / LOCK).exists()


def test_a_digest_list_of_no_use_is_none(tmp_path: Path) -> None:
    root = copy_golden(tmp_path)
    for content in (b"\xff" * 100, b"x", b"0" * 5_000_000):
        (root / "checksums.sha256").write_bytes(content)
        done = CliRunner().invoke(app, ["models", "verify", str(root)], env={"COLUMNS": "200"})
        assert (done.exit_code, "none known" in done.stdout) == (0, True), done.output
