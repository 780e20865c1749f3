"""Measuring the embedded model: rows out of readings, the whole flow on an untrained pipeline, kept clips, the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.nano_fixture import tiny_nano_pipeline
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, WorldClip, make_clip
from phonofilm.pipeline.mova import MovaPipeline
from recipes.nano.measuring.generated_clips import ClipMaker, GeneratedClip, MeasurePlan, Task, held_out_clips
from recipes.nano.measuring.measure import (
    BRIDGE_OFF,
    FROM_FRAME,
    FROM_TEXT,
    PICTURE_FOR_SOUND,
    SOUND_FOR_CLIP,
    VAES,
    Measured,
    measure,
)
from recipes.nano.measuring.measure_report import goals, markdown, write_report
from recipes.nano.measuring.measure_rows import Reading, own_row, read, shuffled_row

FRAMES = 17
PLAN = MeasurePlan(clips=8, steps=1, sweep=(1.0, 2.0), sweep_clips=4, batch=4)


@pytest.fixture(scope="module")
def pipeline() -> MovaPipeline:
    return tiny_nano_pipeline(num_frames=FRAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def measured(pipeline: MovaPipeline, folder: Path) -> Measured:
    return measure(pipeline, folder, PLAN)


@pytest.fixture(scope="module")
def world() -> list[WorldClip]:
    return [make_clip(HELD_OUT_SEED + 700 + i, scene=list(SCENES)[i % 4]) for i in range(32)]


@pytest.fixture(scope="module")
def world_readings(world: list[WorldClip]) -> list[Reading]:
    return [read(GeneratedClip(clip.frames, clip.audio), clip) for clip in world]


def test_world_clips_are_in_sync_and_as_their_captions_say(
    world: list[WorldClip], world_readings: list[Reading]
) -> None:
    row = own_row("world", world_readings, world)
    assert row.overall.sync.within >= 0.97
    assert row.overall.sync.median_ms <= 15
    assert row.overall.sync.misses <= 0.03
    assert row.overall.sync.extras <= 0.05
    assert set(row.overall.adherence) == {"scene", "colour", "last_colour", "size", "pitch", "vowel", "voice"}
    assert min(row.overall.adherence.values()) >= 0.95
    assert set(row.scenes) == set(SCENES)
    assert all(figures.sync.within >= 0.9 for figures in row.scenes.values())
    assert "vowel" not in row.scenes["ball"].adherence
    assert "pitch" not in row.scenes["face"].adherence


def test_the_sound_of_another_clip_is_at_most_half_as_often_in_sync(
    world: list[WorldClip], world_readings: list[Reading]
) -> None:
    own, other = own_row("", world_readings, world), shuffled_row("", world_readings, world)
    assert other.overall.sync.within <= 0.5 * own.overall.sync.within
    assert other.overall.adherence == {}


def test_sound_that_is_late_shows_as_an_offset(world: list[WorldClip], world_readings: list[Reading]) -> None:
    samples = round(0.1 * world[0].sampling_rate)
    late = [
        read(GeneratedClip(clip.frames, np.pad(clip.audio, (samples, 0))[: len(clip.audio)]), clip)
        for clip in world[:12]
    ]
    before, after = own_row("", world_readings[:12], world[:12]), own_row("", late, world[:12])
    assert after.overall.sync.offset_ms - before.overall.sync.offset_ms == pytest.approx(100, abs=8)
    assert after.overall.sync.within < 0.1


def test_a_wrong_colour_counts_against_adherence(world: list[WorldClip]) -> None:
    clip = next(c for c in world if c.attributes["scene"] == "ball" and c.attributes["colour"] != "green")
    swapped = read(GeneratedClip(np.ascontiguousarray(clip.frames[..., [1, 2, 0]]), clip.audio), clip)
    assert own_row("", [swapped], [clip]).overall.adherence["colour"] == 0.0


def test_every_row_is_there_and_ground_truth_is_in_sync(measured: Measured) -> None:
    names = [row.name for row in measured.report.rows]
    for task in (VAES, FROM_FRAME, FROM_TEXT, BRIDGE_OFF, SOUND_FOR_CLIP, PICTURE_FOR_SOUND):
        assert task.name in names
    for name in ("ground truth, shuffled", f"{FROM_FRAME.name}, shuffled", f"{FROM_TEXT.name}, shuffled"):
        assert name in names
    assert [row.name for row in measured.report.sweep] == ["s_B = 1", "s_B = 2"]
    truth = measured.report.row("ground truth").overall
    assert truth.sync.within >= 0.95
    assert truth.adherence["scene"] == truth.adherence["colour"] == 1.0


def test_given_tracks_are_measured_as_given(measured: Measured) -> None:
    truth, sound, picture = (
        measured.report.row(name).overall for name in ("ground truth", SOUND_FOR_CLIP.name, PICTURE_FOR_SOUND.name)
    )
    assert sound.adherence["colour"] == truth.adherence["colour"]
    assert sound.sync.events == truth.sync.events
    assert picture.adherence["pitch"] == truth.adherence["pitch"]
    assert picture.adherence["vowel"] == truth.adherence["vowel"]


def test_untrained_autoencoders_are_told_to_be_bad(measured: Measured) -> None:
    back = measured.report.reconstruction
    assert back.psnr_db < 20
    assert back.spectral_distance_db > 5
    assert back.sdr_db < 5
    missed = {goal.text for goal in goals(measured.report) if not goal.met}
    assert "video VAE: PSNR >= 30 dB" in missed
    assert "events within 1 frame >= 80 %" in missed


def test_speed_is_of_a_clip_made_alone(measured: Measured) -> None:
    assert 0 < measured.report.speed.seconds_per_clip < 60
    assert 100 < measured.report.speed.peak_memory_mb < 20000
    assert measured.report.row(FROM_FRAME.name).seconds_per_clip
    assert measured.report.row("ground truth").seconds_per_clip is None


def test_report_on_paper(measured: Measured, folder: Path) -> None:
    files = write_report(measured, folder, samples=1)
    told = json.loads((folder / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert told["plan"]["clips"] == 8
    assert told["rows"][0]["overall"]["sync"]["within"] >= 0.95
    text = markdown(measured.report)
    assert (folder / "report.md").read_text() == text
    for row in (*measured.report.rows, *measured.report.sweep):
        assert f"| {row.name} " in text
    assert all(file.stat().st_size > 0 for file in files)
    assert "s_B, over 4 clips" in text
    assert "s_B" not in markdown(replace(measured.report, sweep=()))
    for name in ("sync.png", "lags.png", "samples/generated-text-alone-00.png"):
        with Image.open(folder / name) as image:
            assert np.asarray(image.convert("L")).std() > 5
    assert (folder / "samples" / "generated-first-frame-00.mp4").is_file()
    assert not (folder / "samples" / "generated-first-frame-01.mp4").exists()


def test_kept_clips_are_made_again_only_when_what_decides_them_changes(pipeline: MovaPipeline, tmp_path: Path) -> None:
    truths = held_out_clips(pipeline, PLAN)[:3]

    def made(plan: MeasurePlan, task: Task = FROM_FRAME) -> int:
        calls: list[int] = []
        ClipMaker(pipeline, plan, tmp_path, lambda name, done, total: calls.append(done)).make(task, truths)
        return len(truths) - calls[0]

    assert made(PLAN) == 3
    assert made(PLAN) == 0
    assert made(MeasurePlan(clips=100, steps=1, batch=1)) == 0
    assert made(MeasurePlan(steps=2)) == 3
    assert made(MeasurePlan(steps=1, noise_seed=1)) == 3
    assert made(MeasurePlan(steps=1, guidance_scale=1.5)) == 3
    assert made(PLAN, Task(FROM_FRAME.name, first_frame=True, modality_scale=1.0)) == 0
    assert made(PLAN, Task(FROM_FRAME.name, first_frame=True, modality_scale=2.0)) == 3
    next(iter((tmp_path / FROM_FRAME.name).iterdir())).unlink()
    other = tiny_nano_pipeline(num_frames=FRAMES, seed=1)
    assert ClipMaker(other, PLAN, tmp_path).fingerprint != ClipMaker(pipeline, PLAN, tmp_path).fingerprint


def test_a_clip_does_not_depend_on_its_batch(pipeline: MovaPipeline, tmp_path: Path) -> None:
    truths = held_out_clips(pipeline, PLAN)[:3]
    together = ClipMaker(pipeline, MeasurePlan(steps=1, batch=3), tmp_path / "a").make(FROM_TEXT, truths)
    alone = ClipMaker(pipeline, MeasurePlan(steps=1, batch=1), tmp_path / "b").make(FROM_TEXT, truths)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.frames.astype(int) - other.frames).max() <= 1
        np.testing.assert_allclose(one.audio, other.audio, atol=1e-4)


def test_held_out_clips_follow_the_checkpoint_and_no_training_saw_them(pipeline: MovaPipeline) -> None:
    clips = held_out_clips(pipeline, PLAN)
    assert all(clip.seed >= HELD_OUT_SEED for clip in clips)
    assert clips[0].frames.shape == (FRAMES, 64, 64, 3)
    assert [clip.attributes["scene"] for clip in clips[:4]] == list(SCENES)


def test_too_few_clips_are_refused(pipeline: MovaPipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use 8 or more"):
        measure(pipeline, tmp_path, MeasurePlan(clips=7))


@pytest.mark.usefixtures("measured")
def test_the_command_takes_up_kept_clips_and_prints_the_table(
    pipeline: MovaPipeline, folder: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    pipeline.save_pretrained(checkpoint)
    kept = {file: file.stat().st_mtime_ns for file in (folder / "clips").rglob("*.npz")}
    sampling = ["--clips", "8", "--steps", "1", "--batch", "4", "--device", "cpu"]
    sweep = ["--sweep", "1", "--sweep", "2", "--sweep-clips", "4", "--samples", "0"]
    call = ["nano", "measure", "--model", str(checkpoint), "--output", str(folder)]
    result = CliRunner().invoke(app, [*call, *sampling, *sweep])
    assert result.exit_code == 0, result.output
    assert "| ground truth " in result.output
    assert "within 1 frame" in result.output
    assert {file: file.stat().st_mtime_ns for file in (folder / "clips").rglob("*.npz")} == kept


def test_a_share_of_nothing_is_not_a_number(world: list[WorldClip]) -> None:
    clip = world[0]
    still = read(GeneratedClip(np.repeat(clip.frames[:1], 49, axis=0), clip.audio), clip)
    assert math.isnan(own_row("", [still], [clip]).overall.sync.within)
