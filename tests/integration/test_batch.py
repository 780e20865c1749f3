"""`phonofilm generate --prompts`: many clips from one file, resumed where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import GOLDENS
from tests.integration.cli import TINY_CLIP, generate
from tests.media_makers import flash_and_beep

from phonofilm import read_clip
from phonofilm.data.caption_cache import read_captions
from phonofilm.errors import InputError
from phonofilm.evaluation.lora_report import prompt_lines
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.prompt_file import read_lines
from phonofilm.media import read_metadata, save_clip
from phonofilm.serving.client import ServerClient
from phonofilm.serving.client_jobs import Submission, wait_for_all

IMAGE = GOLDENS / "basic" / "first_frame.png"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_line_of_a_text_file_becomes_a_clip() -> None:
    Path("p.txt").write_text("a bell rings\n\n  rain falls \n")
    done = generate("--prompts", "p.txt", "-o", "out", *TINY_CLIP)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["out/0001.mp4", "out/0003.mp4"]
    assert [read_metadata(f)["prompt"] for f in ("out/0001.mp4", "out/0003.mp4")] == ["a bell rings", "rain falls"]
    single = generate("rain falls", "-o", "single.mp4", *TINY_CLIP)
    assert single.exit_code == 0
    assert np.array_equal(read_clip("single.mp4").frames, read_clip("out/0003.mp4").frames)


def test_a_json_line_has_its_own_settings_and_the_command_those_of_all() -> None:
    shutil.copy(IMAGE, "first.png")
    lines = [
        {"prompt": "a bell", "image": "first.png", "output": "bell.webm", "seed": 4},
        {"prompt": "rain", "num_frames": 9, "num_clips": 2, "contact_sheet": "rain.png"},
    ]
    Path("p.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = generate("--prompts", "p.jsonl", "-o", "out", *TINY_CLIP, "--guidance-scale", "2")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["out/bell.webm", "out/0002-0.mp4", "out/0002-1.mp4"]
    told = [read_metadata(path) for path in done.stdout.splitlines()]
    assert [t["seed"] for t in told] == [4, 1, 2]
    assert [t["num_frames"] for t in told] == [5, 9, 9]
    assert {t["guidance_scale"] for t in told} == {2.0}
    assert sorted(p.name for p in Path("out").glob("*.png")) == ["rain-0.png", "rain-1.png"]


@pytest.mark.parametrize("kind", ["mp4", "frames", "latent"])
def test_a_second_run_makes_only_what_is_missing(kind: str) -> None:
    Path("p.txt").write_text("a bell\nrain\n")
    order = ("--prompts", "p.txt", "-o", "out", *TINY_CLIP, "--output-type", kind)
    first = generate(*order)
    one, two = map(Path, first.stdout.splitlines())
    shutil.rmtree(two) if two.is_dir() else two.unlink()
    before = one.stat().st_mtime_ns
    again = generate(*order)
    assert again.exit_code == 0, again.output
    assert again.stdout.splitlines() == [str(two)]
    assert f"p.txt line 1: {one} is there already" in again.stderr
    assert one.stat().st_mtime_ns == before
    last = generate(*order)
    assert (last.exit_code, last.stdout, "loaded" in last.stderr) == (0, "", False)


def test_without_a_seed_a_clip_with_any_seed_is_the_one_asked_for() -> None:
    Path("p.txt").write_text("a bell\n")
    order = ("--prompts", "p.txt", "-o", "out", "--size", "32x32", "--num-frames", "1", "--steps", "1")
    assert generate(*order).stdout.splitlines() == ["out/0001.mp4"]
    assert generate(*order).stdout == ""


def test_a_clip_made_differently_is_not_taken_for_the_one_asked_for() -> None:
    Path("p.txt").write_text("a bell\n")
    order = ("--prompts", "p.txt", "-o", "out", *TINY_CLIP)
    generate(*order)
    changed = (*order, "--guidance-scale", "2")
    refused = generate(*changed)
    assert (refused.exit_code, "line 1: out/0001.mp4 exists already" in refused.stderr) == (1, True)
    assert generate(*changed, "--overwrite").stdout.splitlines() == ["out/0001.mp4"]
    assert read_metadata("out/0001.mp4")["guidance_scale"] == 2.0


def test_a_damaged_clip_is_made_again_when_replacing_is_allowed() -> None:
    Path("p.txt").write_text("a bell\n")
    order = ("--prompts", "p.txt", "-o", "out", *TINY_CLIP, "--overwrite")
    generate(*order)
    path = Path("out/0001.mp4")
    path.write_bytes(path.read_bytes()[:-3000])
    assert generate(*order).stdout.splitlines() == ["out/0001.mp4"]


def test_one_wrong_line_does_not_keep_the_others_from_being_made() -> None:
    lines = [{"prompt": "a", "image": "none.png"}, {"prompt": "b"}, {"prompt": ""}]
    Path("p.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = generate("--prompts", "p.jsonl", "-o", "out", *TINY_CLIP)
    assert done.exit_code == 1
    assert [p.name for p in Path("out").iterdir()] == ["0002.mp4"]
    end = done.stderr[done.stderr.index("error: 2 of 3 lines failed") :]
    assert "p.jsonl line 1: image: no file at none.png" in end
    assert "p.jsonl line 3: the prompt is empty" in end


@pytest.mark.parametrize(
    ("name", "content", "options", "complaint"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"promt": "b"}', (), "p.jsonl line 2: unknown key promt"),
        ("p.jsonl", '{"prompt": "a", "output_type": "avi"}', (), "p.jsonl line 1: output type 'avi' is unknown"),
        ("p.jsonl", '{"prompt": "a", "model": "nano"}', (), "line 1: one model makes all lines; leave its name out"),
        ("p.txt", "a", ("-o", "film.mp4"), "film.mp4 ends like a file; leave out .mp4"),
        ("p.jsonl", "{", (), "p.jsonl line 1 is not JSON that can be read"),
        ("p.txt", "\n", (), "p.txt holds no prompts"),
        ("q.txt", "a", (), "prompts: no file at p.txt"),
        ("p.txt", "a", ("a prompt",), "a prompt and --prompts were both given"),
        ("p.txt", "a", ("--contact-sheet", "s.png"), "contact sheets line by line"),
        ("p.txt", "a", ("--output-type", "avi"), "output type 'avi' is unknown"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused_whole(
    name: str, content: str, options: tuple[str, ...], complaint: str
) -> None:
    Path(name).write_text(content)
    path = "p.txt" if name == "q.txt" else name
    done = generate("--prompts", path, "-o", "out", *TINY_CLIP, *options)
    assert (done.exit_code, complaint in done.stderr) == (2, True), done.stderr
    assert not Path("out").exists()


def test_given_clips_are_read_once_to_check_their_line_and_once_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from phonofilm.pipeline import given_media

    save_clip(flash_and_beep(num_frames=5, at=(2,), side=32), "v.mp4")
    Path("p.jsonl").write_text("\n".join(json.dumps({"prompt": prompt, "video": "v.mp4"}) for prompt in ("a", "b")))
    reads: list[str] = []
    original = given_media.read_clip
    monkeypatch.setattr(given_media, "read_clip", lambda path: reads.append(path) or original(path))
    order = ("--prompts", "p.jsonl", "-o", "out", "--steps", "1", "--seed", "1")
    assert generate(*order).exit_code == 0
    assert len(reads) == 4
    again = generate(*order)
    assert again.stderr.count("is there already") == 2, again.output
    assert len(reads) == 6


def test_prompts_that_are_not_utf_8_say_so(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a bell", encoding="utf-16")
    done = generate("--prompts", tmp_path / "p.txt", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "is no text in UTF-8; save it as UTF-8" in " ".join(done.stderr.split())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_prompts_in_utf_16_say_so(encoding: str) -> None:
    """Without its mark, English in UTF-16 is UTF-8 full of NUL characters, and made clips of letters."""
    Path("p.txt").write_text("a ball bounces\na bell rings", encoding=encoding)
    done = generate("--prompts", "p.txt", "-o", "out", *TINY_CLIP)
    assert done.exit_code == 2
    assert "save it as UTF-8" in done.stderr


def test_only_a_line_break_ends_a_line(tmp_path: Path) -> None:
    """Not the separators that str.splitlines knows as well: JSON may have them in its texts, and word processors write them."""
    text = "a\u2028b\x0cc\x85d"
    (tmp_path / "p.jsonl").write_bytes(
        b"\xef\xbb\xbf" + json.dumps({"prompt": text}, ensure_ascii=False).encode() + b'\r\n{"prompt": "e"}\r\n'
    )
    assert [line.options.prompt for line in read_lines(tmp_path / "p.jsonl", ClipOptions())] == [text, "e"]
    (tmp_path / "p.txt").write_bytes(f"\ufeff{text}\r\ne\r\n".encode())
    assert [line.options.prompt for line in read_lines(tmp_path / "p.txt", ClipOptions())] == [text, "e"]
    assert [caption.caption for caption in read_captions(tmp_path / "p.txt")] == [text, "e"]
    assert prompt_lines(str(tmp_path / "p.txt")) == [text, "e"]
    assert [line.options.prompt for line in Submission(prompts=tmp_path / "p.txt").lines(None)] == [text, "e"]


def test_who_stops_waiting_for_a_server_hears_that_the_jobs_go_on(caplog: pytest.LogCaptureFixture) -> None:
    class Interrupted(ServerClient):
        def wait(self, video_id: str, on_change: Any) -> dict[str, Any]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for_all(Interrupted("http://127.0.0.1:1"), ["a", "b"], lambda video_id, job: None)
    assert "the 2 jobs go on at the server; phonofilm fetch a b" in caplog.text


@pytest.mark.parametrize("content", [None, b"caf\xe9"])
def test_a_file_of_prompts_for_a_server_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "p.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read prompts from .*p\.txt|p\.txt is no text in UTF-8"):
        Submission(prompts=file).lines(None)
