"""Options as they are given: laid over one another, and read from JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from phonofilm.errors import InputError
from phonofilm.generation.films.retakes import Retake, parse_retakes
from phonofilm.generation.options import ClipOptions, options_from_json, parse_scales


def test_what_is_said_wins_and_the_rest_comes_from_the_base() -> None:
    base = ClipOptions(prompt="base", steps=4, seed=0)
    assert ClipOptions(prompt="own", seed=7).over(base) == ClipOptions(prompt="own", steps=4, seed=7)


def test_a_length_in_seconds_takes_back_a_length_in_frames() -> None:
    assert ClipOptions(seconds=2.0).over(ClipOptions(num_frames=49)) == ClipOptions(seconds=2.0)
    assert ClipOptions(num_frames=49).over(ClipOptions(seconds=2.0)) == ClipOptions(num_frames=49)


def test_one_given_track_takes_back_the_other() -> None:
    assert ClipOptions(audio=Path("a.wav")).over(ClipOptions(video=Path("v.mp4"))) == ClipOptions(audio=Path("a.wav"))


def test_a_json_line_becomes_options_of_the_right_kind() -> None:
    line = {"prompt": "rain", "image": "a.png", "seconds": 2, "modality_scale": [3.5, 1], "retake": [1, 2.5], "fps": 24}
    asked = options_from_json(line, "line 1")
    assert asked == ClipOptions(
        prompt="rain", image=Path("a.png"), seconds=2.0, modality_scale="3.5,1", retake="1:2.5", fps="24"
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"promt": "x"}, "line 3: unknown key promt; known are prompt"),
        ({"steps": 2.5}, "line 3: steps is 2.5; expected a whole number"),
        ({"seed": True}, "line 3: seed is True; expected a whole number"),
        ({"guidance_scale": "5"}, "line 3: guidance_scale is '5'; expected a number"),
        ({"image": 3}, "line 3: image is 3; expected a path"),
        ({"prompt": ["a"]}, "line 3: prompt is ['a']; expected text"),
        (["a"], "line 3: expected a JSON object"),
    ],
)
def test_a_wrong_json_line_is_named_with_what_is_wrong(line: object, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        options_from_json(line, "line 3")
    assert str(error.value).startswith(complaint)


def test_values_of_several_parts_are_parsed() -> None:
    assert parse_scales("2") == 2.0
    assert parse_scales("3.5, 1") == (3.5, 1.0)


def test_stretches_to_make_anew_have_prompts_of_their_own() -> None:
    assert parse_retakes("1.5:2") == (Retake(1.5, 2.0),)
    several = parse_retakes("0.5:1 = rain; then sun; 1.5:2")
    assert several == (Retake(0.5, 1.0, "rain; then sun"), Retake(1.5, 2.0))
    line = {"prompt": "a", "retake": ["0.5:1=rain", [1.5, 2]]}
    assert options_from_json(line, "x").retake == "0.5:1=rain; 1.5:2"
    with pytest.raises(InputError, match="has an empty prompt"):
        parse_retakes("1:2=")


@pytest.mark.parametrize("text", ["1", "1:2:3", "a:b", ""])
def test_a_retake_that_is_no_stretch_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="START:END"):
        parse_retakes(text)


def test_a_modality_scale_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"3\.5,1"):
        parse_scales("high")
