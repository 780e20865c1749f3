"""Measuring what a LoRA taught: right on the world's own clips, and the whole flow through the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.lora_helpers import tiny_lora
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.evaluation.sync import LagSummary
from phonofilm.lora.writing import save_lora
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_components
from phonofilm.nano.world import HELD_OUT_SEED, WorldClip, make_clip
from recipes.nano.measuring.generated_clips import Plan, Shown
from recipes.nano.measuring.learned import Concept, Learned, LearnedReport, measure_learned, read_concept
from recipes.nano.measuring.learned_report import learned_markdown, verdicts


def shown(clips: list[WorldClip]) -> list[Shown]:
    return [Shown(clip.frames, clip.audio) for clip in clips]


def owls(count: int) -> list[WorldClip]:
    return [make_clip(HELD_OUT_SEED + i, scene="owl") for i in range(count)]


def test_true_owls_are_all_learnt() -> None:
    clips = owls(6)
    concept = read_concept(shown(clips), clips)
    assert (concept.seen, concept.colour, concept.heard, concept.all) == (1, 1, 1, 1)
    assert concept.sync.within >= 0.8  # a call that the end cuts off is seen and not heard


def test_other_scenes_for_owl_prompts_are_not() -> None:
    prompts = owls(4)
    clips = [make_clip(HELD_OUT_SEED + i, scene="lamp") for i in range(4)]
    concept = read_concept(shown(clips), prompts)
    assert (concept.seen, concept.colour, concept.heard, concept.all) == (0, 0, 0, 0)


def test_a_silent_owl_and_an_owl_of_another_colour_are_half_learnt() -> None:
    red = next(clip for clip in owls(12) if clip.attributes["colour"] == "red")
    blue = next(clip for clip in owls(12) if clip.attributes["colour"] == "blue")
    silent, swapped = Shown(red.frames, np.zeros_like(red.audio)), Shown(blue.frames, blue.audio)
    concept = read_concept([silent, swapped], [red, red])
    assert (concept.seen, concept.colour, concept.heard, concept.all) == (1, 0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("before", "after", "old", "answers"),
    [(0.0, 0.9, 0.85, ("yes", "yes", "yes")), (0.3, 0.7, 0.7, ("no", "no", "no"))],
)
def test_verdicts(before: float, after: float, old: float, answers: tuple[str, ...]) -> None:
    sync = LagSummary(1, 1, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    rows = tuple(
        Learned(name, Concept(share, share, share, share, sync), {"scene": kept, "colour": kept}, ())
        for name, share, kept in (("text alone, base", before, 0.9), ("text alone, LoRA", after, old))
    )
    report = LearnedReport("owl", 8, (), rows)
    assert tuple(line.split(": ")[1].split(" ")[0] for line in verdicts(report)) == answers
    assert "text alone, LoRA" in learned_markdown(report)


def test_a_scene_that_was_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use one of owl"):
        measure_learned(tiny_nano_pipeline(num_frames=5), lambda _: None, tmp_path, Plan(), scene="lamp")


def test_the_command_measures_both_and_writes_pictures(tmp_path: Path) -> None:
    tiny_nano_pipeline(64, 17).save_pretrained(tmp_path / "model")
    networks = load_components(read_layout(tmp_path / "model"), skip=("video_vae", "audio_vae", "text_encoder"))
    save_lora(tiny_lora(networks), tmp_path / "lora.safetensors")
    words = ["nano", "learned", "--lora", str(tmp_path / "lora.safetensors"), "--model", str(tmp_path / "model")]
    words += ["--output", str(tmp_path / "out"), "--clips", "2", "--old-clips", "4", "--steps", "1", "--samples", "1"]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out" / "learned.json").read_text())
    assert [row["name"] for row in told["rows"]] == ["text alone, base", "text alone, LoRA"]
    assert told["rows"][0]["concept"]["all"] == 0
    made = {path.stem.split("-")[1] for path in (tmp_path / "out" / "clips").rglob("*.npz")}
    assert len(made) == 12  # the LoRA's clips are others than the base's
    with Image.open(tmp_path / "out" / "before-after-0.png") as picture:
        assert picture.width > picture.height / 2
    assert (tmp_path / "out" / "0-text-alone-LoRA.mp4").is_file()
