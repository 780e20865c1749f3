"""Options that change nothing are named once, before a clip is made."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli import CHECKPOINT, IMAGE, generate, made

from phonofilm.generation.advice import unused_options
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.clip_plan import plan_clip
from phonofilm.generation.inputs import read_inputs
from phonofilm.generation.options import ClipOptions

TINY = ("a man", "--size", "48x32", "--num-frames", "9", "--steps", "1", "--seed", "1")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip whose tracks can be given."""
    folder = tmp_path_factory.mktemp("given")
    made(*TINY, "-o", folder / "a.mp4")
    return folder


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--guidance-scale", "1", "--negative-prompt", "z"), "negative_prompt changes nothing without guidance"),
        (
            ("--guidance-scale", "1", "--guidance-interval", "0:0.5"),
            "guidance_interval changes nothing without guidance",
        ),
        (("--video", "a.mp4", "--boundary-ratio", "0.1"), "boundary_ratio changes nothing: the picture is given"),
        (("--video", "a.mp4", "--video-shift", "2"), "video_shift changes nothing: the picture is given"),
        (
            ("--audio", "a.mp4", "--audio-guidance-scale", "1"),
            "audio_guidance_scale changes nothing: the sound is given",
        ),
        (("--negative-prompt", "z", "--boundary-ratio", "0.5", "-i", str(IMAGE)), None),
    ],
)
def test_an_option_that_changes_nothing_says_so(
    options: tuple[str, ...], warning: str | None, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(given)
    tiny: tuple[Any, ...] = TINY if "--video" not in options else (TINY[0], *TINY[5:])
    done = generate(*tiny, *options, "-o", tmp_path / "b.mp4")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if "changes nothing" in line]
    assert [line.removeprefix("warning: ").split(" without")[0] for line in lines] == (
        [] if warning is None else [warning.split(" without")[0]]
    )
    assert logging.getLogger("phonofilm").handlers == []


@pytest.mark.parametrize(
    ("options", "experts", "warning"),
    [
        ({"boundary_ratio": 0.5}, 1, "boundary_ratio changes nothing: this model has one expert for all noise"),
        ({"guidance_interval": "0.6:0.7"}, 2, "nothing is guided: guidance_interval 0.6:0.7 holds no step"),
        (
            {"guidance_interval": "0.6:0.7", "guidance_scale": 4.0},
            2,
            "guidance_scale changes nothing without guidance: guidance_interval 0.6:0.7 holds no step",
        ),
        ({"guidance_interval": "0.4:0.7", "guidance_scale": 4.0, "boundary_ratio": 0.5}, 2, None),
        ({"guidance_interval": "0:0.5", "guidance_scale": 1.0, "modality_scale": "2"}, 2, None),
    ],
)
def test_a_plan_names_what_changes_nothing(options: dict[str, Any], experts: int, warning: str | None) -> None:
    checkpoint = open_checkpoint(str(CHECKPOINT))
    asked = ClipOptions(prompt="a man", size="48x32", num_frames=9, steps=2, **options)
    plan = plan_clip(read_inputs(asked), checkpoint)
    assert unused_options(plan, replace(checkpoint.facts, experts=experts)) == ([] if warning is None else [warning])


def test_a_clip_that_is_repeated_is_told_nothing_new(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(given)
    options = ("--guidance-scale", "1", "--video", "a.mp4", "-o", tmp_path / "b.mp4")
    for arguments in ((TINY[0], *TINY[5:], *options), ("--like", tmp_path / "b.mp4", "-o", tmp_path / "c.mp4")):
        done = generate(*arguments)
        assert (done.exit_code, "changes nothing" in done.stderr) == (0, False), done.stderr
