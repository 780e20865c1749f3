"""`phonofilm inspect` and `phonofilm doctor`: what they print about a clip and about this machine."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from tests.conftest import writable_copy
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, made
from typer.testing import CliRunner

from phonofilm.cli.main import app


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_clip_tells_how_it_was_made_and_that_its_file_is_sound() -> None:
    made(*TINY, "-i", IMAGE, "-o", "a.mp4")
    text = run("inspect", "a.mp4")
    for part in ("a man speaks", "first_frame.png", "32x32", "h264", "aac", "nothing wrong with the file"):
        assert part in text


def test_the_same_as_json() -> None:
    made(*TINY, "-o", "a.mp4")
    told = json.loads(run("inspect", "a.mp4", "--json"))
    assert told["settings"]["seed"] == 1
    assert told["file"]["picture"]["frames"] == 5
    assert told["file"]["picture"]["frame_rate"] == "24"
    assert told["file"]["sound"]["samples"] == 10_000
    assert told["file"]["problems"] == []


@pytest.mark.parametrize("name", ["folder", "l.safetensors"])
def test_frames_and_latents_tell_it_too(name: str) -> None:
    made(*TINY, "-o", name)
    assert "a man speaks" in run("inspect", name)
    assert json.loads(run("inspect", name, "--json"))["file"] is None


def test_a_file_without_settings_is_measured_all_the_same() -> None:
    made(*TINY, "-o", "a.mp4")
    with av.open("a.mp4") as source, av.open("silent.mp4", "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    text = run("inspect", "silent.mp4")
    assert "silent.mp4 carries no settings" in text
    assert "there is no sound" in text


def test_latents_of_another_program_are_refused() -> None:
    Path("x.safetensors").write_bytes(b"nothing")
    done = CliRunner().invoke(app, ["inspect", "x.safetensors"])
    assert (done.exit_code, "holds no latents" in done.stderr) == (1, True)


def test_the_doctor_looks_at_versions_devices_attention_codecs_and_a_checkpoint() -> None:
    text = run("doctor", "--model", str(CHECKPOINT))
    for part in (
        "phonofilm",
        "torch",
        "cpu",
        "native",
        "libx264",
        "libopus",
        "video_dit_2",
        "fit for use",
        "nano: yes, ",
        "360p: ",
        "720p: ",
    ):
        assert part in text
    assert "missing" not in text


def test_the_doctor_finds_a_broken_checkpoint(tmp_path: Path) -> None:

    writable_copy(CHECKPOINT, "model")
    Path("model/audio_vae/config.json").unlink()
    done = CliRunner().invoke(app, ["doctor", "-m", "model"])
    assert (done.exit_code, "not fit for use" in done.stdout) == (1, True)
