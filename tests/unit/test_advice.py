"""Options that change nothing are named once, before a clip is made."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli import CHECKPOINT, IMAGE, generate, made

TINY = ("a man", "--size", "48x32", "--num-frames", "9", "--steps", "1", "--seed", "1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--guidance-scale", "1", "--negative-prompt", "z"), "negative_prompt changes nothing without guidance"),
        (("--video", "a.mp4", "--boundary-ratio", "0.1"), "boundary_ratio changes nothing: the picture is given"),
        (("--video", "a.mp4", "--video-shift", "2"), "video_shift changes nothing: the picture is given"),
        (
            ("--audio", "a.mp4", "--audio-guidance-scale", "1"),
            "audio_guidance_scale changes nothing: the sound is given",
        ),
        (("--negative-prompt", "z", "--boundary-ratio", "0.5", "-i", str(IMAGE)), None),
    ],
)
def test_an_option_that_changes_nothing_says_so(options: tuple[str, ...], warning: str | None) -> None:
    assert CHECKPOINT.is_dir()
    made(*TINY, "-o", "a.mp4")
    given: tuple[Any, ...] = TINY if "--video" not in options else (TINY[0], *TINY[5:])
    done = generate(*given, *options, "-o", "b.mp4")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if "changes nothing" in line]
    assert [line.removeprefix("warning: ").split(" without")[0] for line in lines] == (
        [] if warning is None else [warning.split(" without")[0]]
    )
    assert logging.getLogger("phonofilm").handlers == []
