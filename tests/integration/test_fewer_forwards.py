"""Solver, guidance interval and step cache through the pipeline and the command, counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integration.cli import TINY, generate, made, same
from tests.nano_fixture import tiny_nano_pipeline

from phonofilm import MovaPipeline
from phonofilm.media import read_metadata
from phonofilm.pipeline.decode import MovaPipelineOutput


@pytest.fixture(scope="module")
def pipe() -> MovaPipeline:
    return tiny_nano_pipeline(size=32, num_frames=5)


def latents(pipe: MovaPipeline, **more: Any) -> MovaPipelineOutput:
    out = pipe("a ball", generator=torch.Generator().manual_seed(1), output_type="latent", **more)
    assert isinstance(out, MovaPipelineOutput)
    return out


def test_the_cache_reaches_55_of_100_forwards_at_the_documented_threshold() -> None:
    trained = MovaPipeline.from_pretrained("nano")  # an untrained model's velocities have no course that could be told
    out = latents(trained, num_frames=13, num_inference_steps=50, cache="easy:0.1")
    assert out.forwards <= 55
    assert out.forwards == 2 * (50 - out.steps_skipped)


def test_few_steps_without_guidance_take_one_forward_each(pipe: MovaPipeline) -> None:
    assert latents(pipe, num_inference_steps=4, guidance_scale=1.0).forwards == 4


def test_an_interval_guides_only_its_steps(pipe: MovaPipeline) -> None:
    assert latents(pipe, num_inference_steps=10, guidance_interval=(0.0, 0.6)).forwards == 16
    assert latents(pipe, num_inference_steps=10, guidance_interval=(0.2, 0.3)).forwards == 11


def test_every_solver_takes_euler_s_forwards_and_ends_elsewhere(pipe: MovaPipeline) -> None:
    euler = latents(pipe, num_inference_steps=3)
    for name in ("ab2", "dpmpp_2m", "unipc"):
        other = latents(pipe, num_inference_steps=3, solver=name)
        assert other.forwards == euler.forwards == 6
        assert not torch.equal(other.frames, euler.frames)
        assert not torch.equal(other.audio, euler.audio)


def test_the_command_keeps_and_repeats_them(tmp_path: Path) -> None:
    options = ("--solver", "unipc", "--guidance-interval", "0:0.5", "--cache", "easy:0.2", "--steps", "4")
    (clip,) = made(*TINY, *options, "-o", tmp_path / "a.mp4")
    about = read_metadata(clip)
    kept = {key: about[key] for key in ("solver", "guidance_interval", "cache", "forwards", "steps_skipped")}
    assert kept == {
        "solver": "unipc", "guidance_interval": "0:0.5", "cache": "easy:0.2", "forwards": 6, "steps_skipped": 0,
    }  # fmt: skip
    (again,) = made("--like", clip, "-o", tmp_path / "b.mp4")
    assert same(clip, again)
    assert read_metadata(again)["solver"] == "unipc"
    (plain,) = made("--like", clip, "--solver", "euler", "--cache", "none", "-o", tmp_path / "c.mp4")
    assert not same(clip, plain)
    assert "steps_skipped" not in read_metadata(plain)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--solver", "heun", "solver 'heun' is unknown"),
        ("--guidance-interval", "0.6", "is not START:END"),
        ("--guidance-interval", "0.6:0.2", "is not within 0:1"),
        ("--guidance-interval", "0:2", "is not within 0:1"),
        ("--cache", "tea", "cache 'tea' is unknown"),
    ],
)
def test_bad_values_are_named_before_anything_is_loaded(option: str, value: str, message: str) -> None:
    done = generate(*TINY, option, value)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
