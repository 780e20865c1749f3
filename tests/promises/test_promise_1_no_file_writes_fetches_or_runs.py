"""Promise 1: no file you open can make Phonofilm write, fetch or run anything."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, generate, made
from typer.testing import Result

from phonofilm.media import Clip, read_metadata, save_clip


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the hub."""
    asked: list[Any] = []

    def ask(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        raise OSError("no network in this test")

    real = huggingface_hub.snapshot_download

    def snapshot(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **options) if options.get("local_files_only") else ask(*arguments, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a clip that we made says of itself."""
    path = tmp_path_factory.mktemp("made") / "a.mp4"
    made(*TINY, "-o", path)
    return read_metadata(path)


def errors_of(done: Result) -> int:
    """How many lines of standard error are errors; the others say what a run is about."""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    return sum(line.startswith("error: ") for line in done.stderr.splitlines())


def hostile(settings: dict[str, Any], **changes: Any) -> Path:
    """A clip whose metadata is ours but for some entries."""
    clip = Clip(np.zeros((5, 32, 32, 3), np.uint8), 24, np.zeros((1, 10000), np.float32), 48000, settings | changes)
    return save_clip(clip, "h.mp4")


def victim() -> tuple[Path, str]:
    """A file elsewhere that must stay as it is, and its hash."""
    path = Path("../victim.png").resolve()
    shutil.copy(IMAGE, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "option", ["contact_sheet", "output", "prompt", "__class__", "over", "lora", "num_clips", "seed"]
)
def test_metadata_sets_no_option_but_inputs(settings: dict[str, Any], option: str) -> None:
    path, digest = victim()
    for where in (str(path), "../victim.png", "victim.png"):
        clip = hostile(settings, inputs=[{"option": option, "path": where, "sha256": digest}])
        done = generate("--like", clip, "--overwrite", "--model", CHECKPOINT, model=False)
        assert done.exit_code in (1, 2), done.output
        assert "Traceback" not in done.stderr
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert sorted(p.name for p in Path().iterdir()) == ["h.mp4"]


@pytest.mark.parametrize(
    "where",
    ["/dev/zero", "../victim.png", "a/../../victim.png", "~/x.png", ".", "..", "", "/", "pipe", "x" * 5000, "a\0b"],
)
@pytest.mark.parametrize("option", ["image", "video", "audio"])
def test_metadata_reads_no_file_outside_its_folder(settings: dict[str, Any], where: str, option: str) -> None:
    import os

    _, digest = victim()
    os.mkfifo("pipe")
    clip = hostile(settings, inputs=[{"option": option, "path": where, "sha256": digest}])
    done = generate("--like", clip, "-o", "b.mp4")
    assert done.exit_code in (1, 2), done.output
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not Path("b.mp4").exists()


@pytest.mark.parametrize("key", ["inputs", "loras"])
@pytest.mark.parametrize(
    "value", ["x", 1, {}, {"a": 1}, ["x"], [1], [[]], [None], [{"path": 1}], [{"option": ["image"]}], [[[[]]]], True]
)
def test_metadata_of_the_wrong_shape_is_one_line(settings: dict[str, Any], key: str, value: Any) -> None:
    done = generate("--like", hostile(settings, **{key: value}), "-o", "b.mp4")
    assert (done.exit_code, errors_of(done)) == (1, 1), done.output
    assert "carries no settings of phonofilm generate" in done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [("fps", "1e999999999"), ("fps", "24/0"), ("size", "1" * 5000), ("steps", 10**30), ("seed", [1]), ("prompt", 5)],
)
def test_settings_of_no_use_are_one_line(settings: dict[str, Any], key: str, value: Any) -> None:
    done = generate("--like", hostile(settings, **{key: value}), "-o", "b.mp4")
    assert (done.exit_code, errors_of(done)) == (2, 1), done.output


@pytest.mark.parametrize("strength", ["0.8:/etc/passwd", "a b", "../x", "1\n2", 3, None, ["1"]])
def test_a_recorded_strength_is_a_strength(settings: dict[str, Any], strength: Any) -> None:
    loras = [{"path": "a.safetensors", "sha256": "0" * 64, "strength": strength}]
    done = generate("--like", hostile(settings, loras=loras), "-o", "b.mp4")
    assert (done.exit_code, "carries no settings" in done.stderr) == (1, True), done.output


@pytest.mark.parametrize("model", ["attacker/evil-model", "360p", "720p", "OpenMOSS-Team/MOVA-360p"])
def test_metadata_starts_no_download(settings: dict[str, Any], model: str, fetched: list[Any]) -> None:
    done = generate("--like", hostile(settings, model=model), "-o", "b.mp4", model=False)
    assert (done.exit_code, errors_of(done)) == (2, 1), done.output
    assert f"--model {model}" in done.stderr
    assert not fetched


@pytest.mark.parametrize("model", ["/etc", "../x/", "~/x/", "x" * 5000, "", 5, None, ["nano"]])
def test_metadata_names_no_model_elsewhere(settings: dict[str, Any], model: Any, fetched: list[Any]) -> None:
    done = generate("--like", hostile(settings, model=model), "-o", "b.mp4", model=False)
    assert done.exit_code in (1, 2)
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not fetched


@pytest.mark.parametrize("key", ["output", "contact_sheet"])
@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "a/../../x", ".."])
def test_a_line_writes_nothing_outside_the_folder(key: str, name: str) -> None:
    suffix = ".mp4" if key == "output" else ".png"
    Path("p.jsonl").write_text(json.dumps({"prompt": "a", key: name + suffix if name != ".." else name}))
    done = generate("--prompts", "p.jsonl", "--size", "32x32", "--num-frames", "5", "--steps", "1")
    assert (done.exit_code, "outside the folder" in done.stderr) == (2, True), done.output
    assert sorted(p.name for p in Path().iterdir()) == ["p.jsonl"]


def test_a_line_follows_no_link_out_of_the_folder() -> None:
    Path("elsewhere").mkdir()
    Path("p").mkdir()
    Path("p/sub").symlink_to("../elsewhere")
    Path("p/loop").symlink_to("loop")
    for name in ("sub/x.mp4", "loop/x.mp4"):
        Path("p.jsonl").write_text(json.dumps({"prompt": "a", "output": name}))
        done = generate("--prompts", "p.jsonl", "--size", "32x32", "--num-frames", "5", "--steps", "1")
        assert (done.exit_code, "outside the folder" in done.stderr) == (2, True), done.output
    assert not list(Path("elsewhere").iterdir())


def test_a_link_beside_a_clip_gives_it_nothing_but_the_file_it_was_made_with(settings: dict[str, Any]) -> None:
    path, _ = victim()
    Path("first.png").symlink_to(path)
    Path("second.png").symlink_to("/dev/zero")
    for name in ("first.png", "second.png"):
        clip = hostile(settings, inputs=[{"option": "image", "path": name, "sha256": "0" * 64}])
        done = generate("--like", clip, "-o", "b.mp4")
        assert (done.exit_code, errors_of(done)) == (2, 1), done.output
    assert not Path("b.mp4").exists()


def test_our_own_clips_are_repeated_all_the_same(settings: dict[str, Any]) -> None:
    Path("in").mkdir()
    shutil.copy(IMAGE, "in/first.png")
    made(*TINY, "-i", "in/first.png", "-o", "a.mp4")
    made("--like", "a.mp4", "-o", "b.mp4")
    assert Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()


@pytest.mark.parametrize("model", ["/etc", "../x/", "\x1b]0;x\x07/", "x" * 5000])
def test_a_model_and_files_given_besides_take_the_place_of_what_metadata_names(
    settings: dict[str, Any], model: str
) -> None:
    inputs = [{"option": "image", "path": "/dev/zero", "sha256": "0" * 64}]
    clip = hostile(settings, model=model, inputs=inputs)
    arguments = ("--like", clip, "-i", IMAGE, "-o", "b.mp4")
    done = generate(*arguments, model=False)
    assert (done.exit_code, errors_of(done)) == (1 if "\x1b" not in model else 2, 1), done.output
    assert "--model" in done.stderr
    assert "\x1b" not in done.stderr
    made(*arguments)
