"""What the embedded model says it does not know, and how long a large request takes."""

from __future__ import annotations

import json
import logging
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import GOLDENS

from phonofilm import load
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.expected_time import Rates, announcement, clip_seconds
from phonofilm.generation.known_prompts import PROMPTS, is_busy, unfamiliar, unknown_words, warn_if_unfamiliar
from phonofilm.generation.known_words import GROUPS, grouped_words, known_words
from phonofilm.geometry import ClipGeometry
from phonofilm.models.hub import PACKAGED_WEIGHTS
from phonofilm.nano.reading.frame_reader import read_frames
from phonofilm.nano.world import make_clip

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def vocabulary() -> set[str]:
    tokenizer = json.loads((PACKAGED_WEIGHTS / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    return {word for word, _ in tokenizer["model"]["vocab"]}


def geometry(width: int = 64, height: int = 64, frames: int = 49) -> ClipGeometry:
    return ClipGeometry(height, width, frames, Fraction(24), sampling_rate=16000, hop_length=320)


def test_every_caption_of_its_world_and_every_suggested_prompt_is_known(vocabulary: set[str]) -> None:
    captions = [make_clip(seed, num_frames=1).caption for seed in range(10_000_000, 10_000_040)]
    for prompt in (*captions, *PROMPTS, "The red ball bounces on a floor."):
        assert unknown_words(prompt, vocabulary) == []


def test_words_it_would_spell_are_unknown_once_each(vocabulary: set[str]) -> None:
    assert unknown_words("A man in a blue blazer, a MAN speaks.", vocabulary) == ["man", "blazer"]
    assert unknown_words("Мяч прыгает", vocabulary) == ["мяч", "прыгает"]


def test_a_photograph_is_busy_and_its_own_world_is_not() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert is_busy(noise)
    package = find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    photograph = Image.open(Path(package.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg")
    side = photograph.width
    for part in ((0, 0, side, side), (0, 0, side // 2, side // 2), (side // 4, side // 4, side, side)):
        assert is_busy(photograph.crop(part)), part
    for name in ("ball", "face", "lamp", "xylophone"):
        assert not is_busy(Image.open(EXAMPLES / f"{name}.png"))
    assert not any(is_busy(Image.fromarray(make_clip(seed, num_frames=1).frames[0])) for seed in range(40))


def test_frames_that_it_made_itself_are_not_busy() -> None:
    """The busiest frame of each of twelve clips: four scenes, faces with hats and bows among them."""
    sheet = Image.open(GOLDENS / "nano_frames.png")
    frames = [sheet.crop((x, y, x + 64, y + 64)) for y in range(0, sheet.height, 64) for x in range(0, sheet.width, 64)]
    assert len(frames) == 12
    assert [number for number, frame in enumerate(frames) if is_busy(frame)] == []


def test_each_thing_that_is_far_off_is_named(vocabulary: set[str]) -> None:
    assert unfamiliar(["A red ball bounces."], [], geometry(), vocabulary) == []
    found = unfamiliar(["A man."], [], geometry(624, 352, 193), vocabulary)
    assert found == [
        "it has no word for man",
        "624x352 is far from 64x64, the size that it was made for",
        "8.04 s are far more than 2 s, the length that it was made for",
    ]


def test_one_warning_names_the_scenes_prompts_that_work_and_the_way_out(
    vocabulary: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_unfamiliar(PACKAGED_WEIGHTS, ["A man speaks."], [], geometry(), vocabulary, "It takes long")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for part in ("ball", "face", "lamp", "xylophone", "man", *PROMPTS, "360p", "It takes long"):
        assert part in record.getMessage()


def test_other_models_and_known_prompts_get_none(vocabulary: set[str], caplog: pytest.LogCaptureFixture) -> None:
    warn_if_unfamiliar(Path("/elsewhere"), ["A man speaks."], [], geometry(), vocabulary)
    warn_if_unfamiliar(PACKAGED_WEIGHTS, [PROMPTS[0]], [], geometry(), vocabulary)
    assert not caplog.records


def test_time_is_flops_over_rates() -> None:
    from phonofilm.generation.placement.offload import empty_denoiser

    denoiser, rates = empty_denoiser(open_checkpoint("nano"), None), Rates(4e10, 4e10, 1e10)
    small, large = (clip_seconds(denoiser, one, 50, rates) for one in (geometry(), geometry(624, 352, 193)))
    assert 2 < small < 10
    assert large > 500 * small
    twice = clip_seconds(denoiser, geometry(), 50, Rates(2e10, 2e10, 5e9))
    assert twice == pytest.approx(2 * small)


@pytest.mark.parametrize(
    ("seconds", "said"), [(59, None), (130, "about 2 min"), (3050, "about 50 min"), (7700, "about 2 h 10 min")]
)
def test_only_what_takes_long_is_announced(seconds: float, said: str | None) -> None:
    line = announcement(seconds, geometry(624, 352, 193))
    assert line == (None if said is None else f"193 frames at 624x352 on this CPU: {said}")


def test_bug_prompts_to_start_from_came_out_in_other_colours() -> None:
    """A "small blue xylophone" was green for six seeds of six, and the "black hat" a pink bow."""
    with load("nano") as session:
        for prompt, scene in zip(PROMPTS, ("ball", "face", "xylophone", "lamp"), strict=True):
            frames = session.generate(prompt, seed=1).frames
            seen = read_frames(frames, Fraction(24))
            assert seen.scene == scene, prompt
            assert seen.colour in prompt, prompt
            if scene == "face":
                assert frames[:, :6, 24:40].mean() < 80, "the hat is black"


def test_every_word_of_the_model_is_in_one_group() -> None:
    words, groups = known_words(), grouped_words()
    assert {"a", "ah", "ee", "eh", "oo", "ball", "pitched"} <= set(words)
    assert sorted(word for group in groups.values() for word in group) == words
    assert {name: text.split() for name, text in GROUPS.items()} == {name: groups[name] for name in GROUPS}, (
        "no group names a word that the model does not know"
    )
