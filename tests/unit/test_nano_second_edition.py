"""The second edition's recipe at tiny sizes: one world for all stages, rendered beside them, and what a run is said to take."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.test_nano_recipe import TINY

from phonofilm.errors import InputError
from phonofilm.nano.world import make_clip
from recipes.nano.editions import recipe_of_edition, second_edition
from recipes.nano.plan import plan_lines, weight_bytes
from recipes.nano.recipe import Recipe, RecipeRun
from recipes.nano.stages import run_recipe
from recipes.nano.student import StudentConfig
from recipes.nano.video_vae.frame_bank import FrameBank
from recipes.nano.world_bank import World, WorldConfig, rendering

WORLD = WorldConfig(clips=5, size=16, num_frames=5, scenes=("ball", "face"), workers=0, chunk=2, first_clips=2)


def test_a_world_is_rendered_once_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    with rendering(WORLD, tmp_path / "world") as world:
        world.wait()
        assert world.ready == 5
    truth = make_clip(3, scene="face", size=16, num_frames=5)
    (clip,) = world.clips(range(3, 4))
    assert np.array_equal(clip.frames, truth.frames)
    assert clip.caption == truth.caption
    np.testing.assert_allclose(clip.audio, truth.audio, atol=1e-3)
    done = np.load(tmp_path / "world" / "done.npy", mmap_mode="r+")
    done[2] = False
    np.load(tmp_path / "world" / "frames.npy", mmap_mode="r+")[2] = 0
    stopped = World(WORLD, tmp_path / "world")
    assert (stopped.ready, stopped.missing()) == (2, [range(2, 4)])
    with pytest.raises(InputError, match="2 of 5 clips"):
        stopped.wait()
    with rendering(WORLD, tmp_path / "world") as again:
        assert again.ready == 5
    assert np.array_equal(again.frames[2], make_clip(2, scene="ball", size=16, num_frames=5).frames)
    with pytest.raises(InputError, match="another folder"):
        World(replace(WORLD, size=32), tmp_path / "world")


def test_a_bank_on_the_device_gives_the_windows_that_the_host_gives() -> None:
    clips = np.random.default_rng(0).integers(0, 255, (5, 9, 4, 4, 3), np.uint8)
    picks, starts = np.array([4, 0, 2]), np.array([1, 4, 0])
    cpu = torch.device("cpu")
    kept, read = (FrameBank(clips, lambda: len(clips), cpu, resident=resident) for resident in (True, False))
    assert torch.equal(kept.windows(picks, starts, 5), read.windows(picks, starts, 5))
    assert torch.equal(kept.windows(picks[1:2], starts[1:2], 1)[0, 0], torch.from_numpy(clips[0, 4]))


def test_the_second_edition_keeps_to_its_minutes_and_to_its_size() -> None:
    recipe = second_edition(8)
    assert recipe.student is not None
    stages = (recipe.video_vae, recipe.audio_vae, recipe.audio_decoder, recipe.joint, recipe.experts, recipe.student)
    assert 0.8 * 480 < sum(stage.budget_seconds or 0.0 for stage in stages) < 0.95 * 480
    assert weight_bytes(recipe) + 5.2e6 < 40e6  # 5.2 MB: a student of rank 16 in float32
    assert recipe.shard_bytes == 16 * 2**20
    half = second_edition(4)
    assert half.joint.budget_seconds == recipe.joint.budget_seconds / 2
    lines = plan_lines(recipe, "cuda")
    assert lines[0].startswith("world: 4000 clips of 81 frames at 128x128 by ")
    assert ["about 1920 updates" in line for line in lines if line.startswith("audio-vae 58 s: ")] == [True]
    assert lines[-1].startswith("computed for an H100 at 40 TFLOP/s")


def test_the_first_edition_is_the_recipe_as_it_was() -> None:
    assert recipe_of_edition(1) == Recipe()
    assert (Recipe().world, Recipe().student) == (None, None)
    with pytest.raises(InputError, match="is for edition 2"):
        recipe_of_edition(1, 8)
    with pytest.raises(InputError, match="no edition 3"):
        recipe_of_edition(3)


@pytest.mark.slow
def test_every_stage_of_a_second_edition_ends_in_a_checkpoint_with_a_student(tmp_path: Path) -> None:
    import phonofilm

    tiny = replace(
        TINY,
        world=replace(WORLD, clips=6, num_frames=17, workers=min(2, os.cpu_count() or 1)),
        video_vae=replace(TINY.video_vae, num_frames=17),
        audio_vae=replace(TINY.audio_vae, crop_hops=8),
        audio_decoder=replace(TINY.audio_decoder, crop_hops=8),
        latents=replace(TINY.latents, clips=6, num_frames=17),
        samples=False,
        defaults={**TINY.defaults, "num_frames": 17},
        shard_bytes=40_000,
        student=StudentConfig(
            captions=2,
            settings=("max_steps=2", "batch_size=1", "accumulate=1", "optimizer.warmup=1", "samples.every=0"),
        ),
    )
    run = RecipeRun(tiny, tmp_path)
    checkpoint = run_recipe(run)
    assert checkpoint is not None
    files = list(checkpoint.rglob("*.safetensors"))
    assert len(files) > 8  # several pieces of some parts
    assert run_recipe(run, ("video-vae", "audio-vae", "latents", "joint", "experts")) == checkpoint
    session = phonofilm.load(str(checkpoint))
    clip = session.generate("a red ball", seed=1)
    assert clip.frames.shape == (17, 16, 16, 3)
    assert "4 distilled steps" in session.plan("a red ball").line
