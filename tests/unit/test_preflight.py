"""What is refused before PyTorch is imported, and where a clip goes by default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.outputs import choose_outputs
from phonofilm.generation.preflight import check_request

REFUSED = """
import sys
from phonofilm.cli.main import app
try:
    app()
except SystemExit as end:
    heavy = [name for name in ("torch", "numpy", "diffusers", "transformers", "av", "PIL") if name in sys.modules]
    print(end.code, heavy)
"""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["x", "--image", "none.png"], "image: no file at none.png"),
        (["x", "--video", "none.mp4"], "video: no file at none.mp4"),
        ([" "], "the prompt is empty"),
        (["x", "-o", "there.mp4"], "there.mp4 exists already; choose another name, or replace it (--overwrite"),
        (["x", "-o", "there.avi"], "unknown kind .avi"),
        (["x", "--model", "no such"], "'no such' is no model"),
        (["x", "--model", "./nowhere"], "'./nowhere' is no model"),
        (["--like", "none.mp4"], "like: no file at none.mp4"),
        (["--prompts", "none.txt"], "prompts: no file at none.txt"),
        (["x", "--retake", "1:2"], "retake was given without video"),
        (["x", "--num-clips", "0"], "num_clips 0 is outside"),
        (["x", "--keyframe", "soon=a.png"], "keyframe 'soon=a.png' is not SECONDS=FILE"),
    ],
)
def test_a_refusal_comes_before_anything_heavy_is_imported(words: list[str], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "there.mp4").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, "generate", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert complaint in done.stderr
    assert done.stdout.strip() == "2 []"
    assert [file.name for file in tmp_path.iterdir()] == ["there.mp4"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (ClipOptions(prompt="x", steps=0), "steps 0 is less than 1"),
        (ClipOptions(prompt="x", fps="fast"), "fast"),
        (ClipOptions(prompt="x", size="large"), "size 'large' is not WIDTHxHEIGHT"),
        (ClipOptions(prompt="x", guidance_interval="all"), "guidance_interval 'all' is not START:END"),
        (ClipOptions(prompt="x", modality_scale="much"), "modality_scale 'much' is not a number"),
    ],
)
def test_words_that_cannot_be_read_are_refused_at_once(options: ClipOptions, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        check_request(options, None)


def test_a_folder_of_prompts_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prompts: no file at .*: that is a folder"):
        check_request(ClipOptions(), None, prompts=tmp_path)


def test_the_first_line_says_what_will_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(b"")
    assert check_request(ClipOptions(prompt="x"), None).line == "nano makes clip-2.mp4: starting PyTorch"
    several = check_request(ClipOptions(prompt="x", num_clips=3, output=Path("a.mp4")), "nano")
    assert several.line == "nano makes a-0.mp4 to a-2.mp4: starting PyTorch"


def test_the_default_name_is_numbered_and_a_given_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def chosen(count: int = 1, kind: str | None = None, overwrite: bool = False) -> str:
        return str(choose_outputs(None, kind, count, overwrite)[0].path)

    assert chosen() == "clip.mp4"
    Path("clip.mp4").write_bytes(b"")
    assert chosen() == "clip-2.mp4"
    assert chosen(overwrite=True) == "clip.mp4"
    assert chosen(kind="webm") == "clip.webm"
    Path("clip-2.mp4").symlink_to("nothing")
    assert chosen() == "clip-3.mp4"
    Path("clip-1.mp4").write_bytes(b"")
    assert chosen(count=2) == "clip-2-0.mp4"
    with pytest.raises(InputError, match=r"clip\.mp4 exists already"):
        choose_outputs(Path("clip.mp4"), None, 1, False)


@pytest.mark.parametrize("option", ["video", "continue_from", "image"])
def test_a_clip_does_not_replace_what_it_is_made_from(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").write_bytes(b"")
    Path("link.mp4").symlink_to("a.mp4")
    for output in ("a.mp4", "./a.mp4", "link.mp4"):
        options = ClipOptions(prompt="x", output=Path(output), **{option: Path("a.mp4")})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"would replace or change a\.mp4, which it is made from"):
            check_request(options, None, overwrite=True)
