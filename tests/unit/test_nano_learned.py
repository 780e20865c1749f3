"""Measuring what a LoRA taught: right on the world's own clips, and the whole flow through the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.lora_helpers import tiny_lora
from tests.unit.test_nano_sight import blurred, mixed_with_neighbours
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.evaluation.sync import LagSummary
from phonofilm.geometry import ClipGeometry
from phonofilm.lora.writing import save_lora
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_components
from phonofilm.nano.world import HELD_OUT_SEED, WorldClip, make_clip
from phonofilm.nano.world.owl import BROWN, OWL_TABLE
from phonofilm.nano.world.palette import backdrop
from phonofilm.nano.world_files import export_world
from recipes.nano.measuring.generated_clips import GeneratedClip, MeasurePlan
from recipes.nano.measuring.learned import (
    Concept,
    Learned,
    LearnedReport,
    measure_learned,
    read_concept,
    unseen_clips,
)
from recipes.nano.measuring.learned_report import learned_markdown, learned_verdicts
from recipes.nano.measuring.novelty import TrainedOwl, loudness_curve
from recipes.nano.measuring.owl_reader import read_calls, read_owl
from recipes.nano.measuring.owl_verdict import IN_SYNC, sync_agreement

Cheat = Callable[[list[WorldClip], list[WorldClip]], list[GeneratedClip]]


def shown(clips: Sequence[WorldClip]) -> list[GeneratedClip]:
    return [GeneratedClip(clip.frames, clip.audio) for clip in clips]


def owls(count: int, first: int = HELD_OUT_SEED) -> list[WorldClip]:
    return [make_clip(first + i, scene="owl") for i in range(count)]


@pytest.fixture(scope="module")
def training_clips() -> list[WorldClip]:
    """Those of the tutorial."""
    return owls(20, first=0)


@pytest.fixture(scope="module")
def trained(training_clips: list[WorldClip]) -> tuple[TrainedOwl, ...]:
    return tuple(
        TrainedOwl(str(c.seed), c.caption, read_owl(c.frames, c.frame_rate), loudness_curve(c.audio, c.sampling_rate))
        for c in training_clips
    )


@pytest.fixture(scope="module")
def prompts(trained: tuple[TrainedOwl, ...]) -> list[WorldClip]:
    geometry = ClipGeometry(64, 64, 49, Fraction(24), sampling_rate=16000, hop_length=320)
    return unseen_clips("owl", geometry, HELD_OUT_SEED, 10, {owl.caption for owl in trained})


def degraded(clip: GeneratedClip, seed: int = 0) -> GeneratedClip:
    """As an autoencoder gives it back: blurred in place and time, with noise in picture and sound."""
    noise = np.random.default_rng(seed)
    frames = blurred(mixed_with_neighbours(clip.frames)) + noise.normal(0, 4, clip.frames.shape)
    audio = clip.audio + noise.normal(0, 0.005, clip.audio.shape)
    return GeneratedClip(np.clip(frames + 0.5, 0, 255).astype(np.uint8), audio.astype(np.float32))


def test_captions_that_were_trained_on_are_not_asked_for(
    prompts: list[WorldClip], trained: tuple[TrainedOwl, ...]
) -> None:
    seen = {owl.caption for owl in trained}
    assert sum(clip.caption in seen for clip in owls(24)) == 4
    assert len(prompts) == 10
    assert not {clip.caption for clip in prompts} & seen
    assert prompts[0].seed == HELD_OUT_SEED


def test_a_training_set_of_every_caption_is_refused() -> None:
    geometry = ClipGeometry(16, 16, 1, Fraction(24))
    every = {make_clip(HELD_OUT_SEED + i, scene="owl", size=16, num_frames=1).caption for i in range(16)}
    with pytest.raises(InputError, match="only 0 of 16 held-out captions of owl were not trained on"):
        unseen_clips("owl", geometry, HELD_OUT_SEED, 2, every)


def test_true_owls_are_all_learnt(prompts: list[WorldClip], trained: tuple[TrainedOwl, ...]) -> None:
    concept = read_concept(shown(prompts), prompts, trained)
    assert concept.all == 1
    assert concept.sync.within >= 0.8  # a call that the end cuts off is seen and not heard
    assert concept.distance > 0.2


def test_true_owls_behind_an_autoencoder_are_learnt(prompts: list[WorldClip], trained: tuple[TrainedOwl, ...]) -> None:
    clips = [degraded(clip) for clip in shown(prompts)]
    assert read_concept(clips, prompts, trained).all >= 0.95


def replayed(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    """For every prompt the training clip that comes nearest to it."""

    def likeness(clip: WorldClip, prompt: WorldClip) -> int:
        return sum(clip.attributes[name] == prompt.attributes[name] for name in ("colour", "background"))

    return shown([max(training, key=lambda clip, prompt=prompt: likeness(clip, prompt)) for prompt in prompts])


def replayed_and_degraded(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    return [degraded(clip) for clip in replayed(prompts, training)]


def still(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    return [GeneratedClip(np.repeat(clip.frames[:1], len(clip.frames), axis=0), clip.audio) for clip in prompts]


def with_another_background(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    clips = []
    for clip in prompts:
        wall = backdrop(clip.attributes["background"], 64, OWL_TABLE, BROWN)
        other = backdrop("night" if clip.attributes["background"] != "night" else "sky", 64, OWL_TABLE, BROWN)
        bare = np.abs(clip.frames - wall).max(-1, keepdims=True) < 4
        clips.append(GeneratedClip(np.where(bare, other, clip.frames).astype(np.uint8), clip.audio))
    return clips


def with_22_frames_of_noise(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    noise = np.random.default_rng(0)
    clips = []
    for clip in prompts:
        frames = clip.frames.copy()
        frames[1::2][:22] = noise.integers(0, 256, frames[1::2][:22].shape)
        clips.append(GeneratedClip(frames, clip.audio))
    return clips


def silent(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    return [GeneratedClip(clip.frames, np.zeros_like(clip.audio)) for clip in prompts]


def lamps(prompts: list[WorldClip], training: list[WorldClip]) -> list[GeneratedClip]:
    return shown([make_clip(clip.seed, scene="lamp") for clip in prompts])


@pytest.mark.parametrize(
    ("cheat", "found_by"),
    [
        (replayed, "new"),
        (replayed_and_degraded, "new"),
        (still, "moves"),
        (silent, "calls"),
        (with_another_background, "background"),
        (with_22_frames_of_noise, "seen"),
        (lamps, "seen"),
    ],
)
def test_what_only_looks_like_learning_fails_every_clip(
    cheat: Cheat,
    found_by: str,
    prompts: list[WorldClip],
    training_clips: list[WorldClip],
    trained: tuple[TrainedOwl, ...],
) -> None:
    concept = read_concept(cheat(prompts, training_clips), prompts, trained)
    assert concept.all == 0
    assert getattr(concept, found_by) <= 0.3


def test_another_clips_sound_fails(prompts: list[WorldClip], trained: tuple[TrainedOwl, ...]) -> None:
    """Two rhythms may agree by chance: that is what the share of all pairs bounds."""
    foreign = [GeneratedClip(a.frames, b.audio) for a, b in zip(prompts, [*prompts[1:], prompts[0]], strict=True)]
    assert read_concept(foreign, prompts, trained).all <= 0.1
    wings = [owl.owl.events for owl in trained]
    calls = [read_calls(clip.audio, clip.sampling_rate) for clip in prompts]
    agree = [sync_agreement(w, c, heard_until=1.8, tolerance=1 / 24) >= IN_SYNC for w in wings for c in calls]
    assert np.mean(agree) <= 0.05


def test_a_memorised_rhythm_shows_in_the_distance(
    prompts: list[WorldClip], training_clips: list[WorldClip], trained: tuple[TrainedOwl, ...]
) -> None:
    """Every clip has the rhythm of a trained clip; those of held-out clips are near one only by chance."""
    truth = read_concept(shown(prompts), prompts, trained)
    one = training_clips[0]
    replay = read_concept(shown([one] * len(prompts)), prompts, trained)
    assert replay.all == 0
    assert replay.distance < 0.5 * truth.distance


def test_an_owl_of_another_colour_is_half_learnt(prompts: list[WorldClip], trained: tuple[TrainedOwl, ...]) -> None:
    red = next(clip for clip in prompts if clip.attributes["colour"] == "red")
    blue = next(clip for clip in prompts if clip.attributes["colour"] == "blue")
    concept = read_concept(shown([red, blue]), [red, red], trained)
    assert (concept.seen, concept.colour, concept.calls, concept.all) == (1, 0.5, 1, 0.5)


def concept(share: float, sync: LagSummary, distance: float | None = None) -> Concept:
    """Every share alike, and so the distance, if none is given."""
    return Concept(*[share] * 8, share if distance is None else distance, sync)


@pytest.mark.parametrize(
    ("before", "after", "old", "answers"),
    [(0.0, 0.9, 0.85, ("yes", "yes", "yes", "yes")), (0.3, 0.1, 0.7, ("no", "no", "no", "no"))],
)
def test_verdicts(before: float, after: float, old: float, answers: tuple[str, ...]) -> None:
    sync = LagSummary(1, 1, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    rows = tuple(
        Learned(name, concept(share, sync), {"scene": kept, "colour": kept}, ())
        for name, share, kept in (("text alone, base", before, 0.9), ("text alone, LoRA", after, old))
    )
    report = LearnedReport("owl", 8, (), rows, concept(1.0, sync, distance=0.3), 4)
    assert tuple(line.split(": ")[1].split(" ")[0] for line in learned_verdicts(report)) == answers
    assert "text alone, LoRA" in learned_markdown(report)


def test_a_scene_that_was_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use one of owl"):
        measure_learned(tiny_nano_pipeline(num_frames=5), lambda _: None, tmp_path, MeasurePlan(), (), scene="lamp")


def test_the_command_measures_both_and_writes_pictures(tmp_path: Path) -> None:
    tiny_nano_pipeline(64, 17).save_pretrained(tmp_path / "model")
    networks = load_components(read_layout(tmp_path / "model"), skip=("video_vae", "audio_vae", "text_encoder"))
    save_lora(tiny_lora(networks), tmp_path / "lora.safetensors")
    list(export_world(tmp_path / "clips", 2, scene="owl", num_frames=17))
    words = ["nano", "learned", "--lora", str(tmp_path / "lora.safetensors"), "--model", str(tmp_path / "model")]
    words += ["--trained-on", str(tmp_path / "clips")]
    words += ["--output", str(tmp_path / "out"), "--clips", "2", "--old-clips", "4", "--steps", "1", "--samples", "1"]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "learned.json").read_text())
    assert [row["name"] for row in figures["rows"]] == ["text alone, base", "text alone, LoRA"]
    assert figures["rows"][0]["concept"]["all"] == 0
    assert figures["truth"]["seen"] == 1
    made = {path.stem.split("-")[1] for path in (tmp_path / "out" / "clips").rglob("*.npz")}
    assert len(made) == 12  # the LoRA's clips are others than the base's
    with Image.open(tmp_path / "out" / "before-after-0.png") as picture:
        assert picture.width > picture.height / 2
    assert (tmp_path / "out" / "0-text-alone-LoRA.mp4").is_file()
