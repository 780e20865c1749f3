"""`bridge_scale` reaches the denoiser: at 0 neither track knows the other, whatever the guidance."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tests.nano_fixture import tiny_nano_pipeline
from torch import Tensor

from phonofilm.pipeline.mova import MovaPipeline


@pytest.fixture(scope="module")
def pipeline() -> MovaPipeline:
    return tiny_nano_pipeline(size=32, num_frames=5)


def audio_of(pipeline: MovaPipeline, first_frame: str, **options: float) -> Tensor:
    """Audio latents of a clip whose first frame is of one colour: only the bridge can tell the sound of it."""
    out = pipeline(
        "a ball",
        image=Image.new("RGB", (32, 32), first_frame),
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **options,
    )
    return out.audio


def test_sound_depends_on_the_picture_by_default(pipeline: MovaPipeline) -> None:
    assert not torch.equal(audio_of(pipeline, "red"), audio_of(pipeline, "blue"))


@pytest.mark.parametrize("modality_scale", [1.0, 2.0])
def test_sound_ignores_the_picture_with_the_bridge_at_zero(pipeline: MovaPipeline, modality_scale: float) -> None:
    options = {"bridge_scale": 0.0, "modality_scale": modality_scale}
    assert torch.equal(audio_of(pipeline, "red", **options), audio_of(pipeline, "blue", **options))


def test_one_is_the_default_and_values_between_differ_from_both(pipeline: MovaPipeline) -> None:
    default, one, half, off = (
        audio_of(pipeline, "red", **options)
        for options in ({}, {"bridge_scale": 1.0}, {"bridge_scale": 0.5}, {"bridge_scale": 0.0})
    )
    assert torch.equal(default, one)
    assert not torch.equal(half, one)
    assert not torch.equal(half, off)
