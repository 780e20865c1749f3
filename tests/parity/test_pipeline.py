"""The whole run agrees with the original: text, condition, latents, frames and sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import Golden, relative_error

from phonofilm import MovaPipeline
from phonofilm.pipeline import conditions
from phonofilm.pipeline.call_arguments import frame_tensor

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pipe(golden: Golden) -> MovaPipeline:
    pipe = MovaPipeline.from_pretrained(golden.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call_arguments(golden: Golden) -> dict[str, Any]:
    named = ("prompt", "negative_prompt", "height", "width", "num_frames", "frame_rate", "num_inference_steps")
    scales = ("guidance_scale", "video_shift", "audio_shift")
    return {name: golden.meta[name] for name in named + scales} | {
        "image": golden.first_frame,
        "latents": golden["pipeline/video_noise"],
        "audio_latents": golden["pipeline/audio_noise"],
    }


def test_prompt(pipe: MovaPipeline, golden: Golden) -> None:
    assert conditions.clean_prompt(golden.meta["prompt"]) == golden.meta["prompt_clean"]
    # The golden ids are those of the prompt as it came; the golden embeddings those of the cleaned one.
    assert pipe.tokenizer(golden.meta["prompt"]).input_ids == golden["text/ids"].tolist()
    with torch.no_grad():
        text = pipe.encode_prompt([golden.meta["prompt"]])
    assert relative_error(text.embeds, golden["text/embeds"]) <= TOLERANCE


def test_video_vae(pipe: MovaPipeline, golden: Golden) -> None:
    with torch.no_grad():
        latent = pipe.video_vae.encode(golden["video_vae/video"]).latent_dist.mode()
        assert relative_error(latent, golden["video_vae/latent"]) <= TOLERANCE
        assert relative_error(conditions.normalize(pipe.video_vae, latent), golden["video_vae/normalized"]) <= TOLERANCE
        assert relative_error(pipe.video_vae.decode(latent).sample, golden["video_vae/decoded"]) <= TOLERANCE
    back = conditions.denormalize(pipe.video_vae, conditions.normalize(pipe.video_vae, latent))
    assert relative_error(back, latent) <= TOLERANCE


def test_first_frame_condition(pipe: MovaPipeline, golden: Golden) -> None:
    meta = golden.meta
    from phonofilm.pipeline.call_arguments import ClipSizes, Tracks, choose_edit_task

    sizes = ClipSizes(meta["height"], meta["width"], meta["num_frames"], meta["frame_rate"])
    geometry = choose_edit_task(Tracks(), sizes, pipe.default_geometry).geometry
    first = frame_tensor(golden.first_frame, geometry, "crop")
    with torch.no_grad():
        condition = conditions.frame_condition(pipe.video_vae, geometry, torch.device("cpu"), first)
    assert relative_error(condition, golden["pipeline/condition"]) <= TOLERANCE


def test_latents_frames_and_sound(pipe: MovaPipeline, golden: Golden) -> None:
    latents = pipe(**call_arguments(golden), output_type="latent")
    video = conditions.denormalize(pipe.video_vae, latents.frames)
    assert relative_error(video, golden["pipeline/video_latents_denormalized"]) <= TOLERANCE
    assert relative_error(latents.audio, golden["pipeline/audio_latents"]) <= TOLERANCE

    out = pipe(**call_arguments(golden), output_type="pil")
    frames = np.stack([np.asarray(frame) for frame in out.frames[0]]).astype(int)
    assert np.abs(frames - golden["pipeline/video_u8"].numpy().astype(int)).max() <= 1
    samples = int(out.sampling_rate * golden.meta["num_frames"] / golden.meta["frame_rate"])
    assert out.audio.shape == (1, 1, samples)
    assert relative_error(torch.from_numpy(out.audio), golden["pipeline/audio"][..., :samples]) <= TOLERANCE
