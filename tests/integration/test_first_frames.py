"""`phonofilm generate --first-frame-from`: a clip from text alone begins with a picture that another model draws."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.integration.cli import IMAGE, generate
from tests.unit.fake_endpoint import FakeEndpoint, serving

from phonofilm.media import read_metadata

TINY_CLIP = ("--size", "64x64", "--num-frames", "1", "--steps", "1", "--seed", "1")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.chdir(tmp_path)
    with serving(FakeEndpoint(answers={"image": {"b64_json": base64.b64encode(IMAGE.read_bytes()).decode()}})) as found:
        yield found


def test_a_clip_begins_with_the_picture_that_was_drawn_and_can_be_repeated(fake: FakeEndpoint) -> None:
    drawing = ("--first-frame-from", fake.url, "--first-frame-model", "painter")
    done = generate("a bell", *TINY_CLIP, *drawing, "-o", "bell.mp4")
    assert done.exit_code == 0, done.output
    assert (fake.requests[0]["model"], fake.requests[0]["size"]) == ("painter", "64x64")
    assert "a bell" in fake.requests[0]["prompt"]
    frame = Path("bell-first-frame.png")
    assert Image.open(frame).size == Image.open(IMAGE).size
    (given,) = read_metadata("bell.mp4")["inputs"]
    assert (given["option"], given["path"]) == ("image", frame.name)
    other = generate("a drum", *TINY_CLIP, *drawing, "-o", "bell.webm")
    assert (other.exit_code, "drawn for something else" in other.stderr) == (2, True)
    assert len(fake.requests) == 1


def test_each_line_has_its_own_picture_which_is_drawn_once(fake: FakeEndpoint) -> None:
    drawing = ("--first-frame-from", fake.url, "--first-frame-model", "painter")
    Path("first.png").write_bytes(IMAGE.read_bytes())
    Path("p.jsonl").write_text('{"prompt": "a bell"}\n{"prompt": "rain", "image": "first.png"}\n')
    words = ("--prompts", "p.jsonl", "-o", "out", *TINY_CLIP, *drawing)
    assert generate(*words).exit_code == 0
    Path("out/0002.mp4").unlink()
    again = generate(*words)
    assert again.stdout.splitlines() == ["out/0002.mp4"]
    assert [request["prompt"][-6:] for request in fake.requests] == ["a bell"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0001-first-frame.png", "0001.mp4", "0002.mp4"]


def test_what_is_missing_is_said_before_anything_is_drawn(fake: FakeEndpoint) -> None:
    for words, message in (
        (("--first-frame-from", fake.url), "--first-frame-model gpt-image-1"),
        (("--first-frame-model", "painter"), "add --first-frame-from"),
        (("--first-frame-from", "some/model", "--first-frame-model", "painter"), "is a model already"),
    ):
        done = generate("a bell", *words)
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
    assert not fake.requests
