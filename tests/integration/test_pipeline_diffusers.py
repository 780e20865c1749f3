"""The pipeline for people who know diffusers: where weights may wait, and what a wrong call or a foreign part is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from tests.conftest import GOLDENS

from phonofilm import MovaPipeline, MovaPipelineOutput
from phonofilm.errors import InputError

CHECKPOINT = str(GOLDENS / "basic" / "checkpoint")
CPU = torch.device("cpu")
CLIP: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2, "output_type": "pt"}


def made(pipe: MovaPipeline, **changes: Any) -> MovaPipelineOutput:
    arguments = {"prompt": "a man speaks", "generator": torch.Generator().manual_seed(1), **CLIP, **changes}
    return pipe(**arguments)


@pytest.fixture(scope="module")
def pipe() -> MovaPipeline:
    return MovaPipeline.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def usual() -> MovaPipelineOutput:
    return made(MovaPipeline.from_pretrained(CHECKPOINT))


@pytest.mark.parametrize(
    "place",
    [
        lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
        lambda pipe: pipe.to("cpu", torch.float32),
    ],
    ids=["enable_model_cpu_offload", "to"],
)
def test_where_weights_wait_changes_no_number(
    place: Callable[[MovaPipeline], object], usual: MovaPipelineOutput
) -> None:
    pipe = MovaPipeline.from_pretrained(CHECKPOINT)
    place(pipe)
    out = made(pipe)
    assert torch.equal(out.frames, usual.frames)
    assert torch.equal(out.audio, usual.audio)


def test_offloading_by_group_leaves_the_picture_to_the_autoencoders_chunks(usual: MovaPipelineOutput) -> None:
    pipe = MovaPipeline.from_pretrained(CHECKPOINT)
    pipe.enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type="leaf_level")
    out = made(pipe)
    # Its hooks bring weights module by module, so that the picture cannot go through at once: the same to rounding.
    torch.testing.assert_close(out.frames, usual.frames, rtol=0, atol=1e-4)
    torch.testing.assert_close(out.audio, usual.audio, rtol=0, atol=1e-4)


def test_a_callback_gets_the_latents_it_names(pipe: MovaPipeline) -> None:
    seen: list[list[str]] = []

    def callback(pipe: MovaPipeline, index: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(sorted(tensors))
        return tensors

    made(pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["latents"])
    made(pipe, callback_on_step_end=callback)
    assert seen[0] == ["latents"]
    assert seen[-1] == ["audio_latents", "latents"]


def test_what_comes_out_can_go_in(pipe: MovaPipeline) -> None:
    follows = {"num_frames": None, "height": None, "width": None}
    frames = made(pipe).frames[0]
    as_tensor = made(pipe, video=frames, **follows)
    as_array = made(pipe, video=frames.permute(0, 2, 3, 1).numpy(), **follows)
    assert torch.equal(as_tensor.audio, as_array.audio)
    made(pipe, height=np.int64(32), num_inference_steps=np.int32(1), guidance_scale=np.float32(2))
    with pytest.raises(InputError, match="these are latents, not decoded"):
        made(pipe, output_type="latent").clips()


def test_a_foreign_scheduler_is_refused_with_what_to_do_instead() -> None:
    pipe = MovaPipeline.from_pretrained(CHECKPOINT)
    pipe.scheduler = UniPCMultistepScheduler()
    with pytest.raises(InputError, match=r'UniPCMultistepScheduler; MOVA needs .* pass solver="unipc"'):
        made(pipe)


def test_a_dtype_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"torch_dtype is torch\.int8; expected one with fractions"):
        MovaPipeline.from_pretrained(CHECKPOINT, torch_dtype=torch.int8)
    with pytest.raises(InputError, match=r"expected a torch\.dtype such as torch\.bfloat16"):
        MovaPipeline.from_pretrained(CHECKPOINT, torch_dtype="float32")


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"guidance_scale": "5"}, InputError, "guidance_scale is '5', a str; expected a number"),
        ({"guidence": 5}, TypeError, "unexpected keyword argument 'guidence'"),
        ({"image": 5}, InputError, "image is a int; expected a path"),
        ({"image": "http://127.0.0.1:9/x.png"}, InputError, r"no picture at http://127\.0\.0\.1:9/x\.png"),
        ({"prompt": None}, InputError, "give a prompt, or prompt_embeds in its place"),
        ({"prompt": 3}, InputError, "prompt is 3, a int; expected text, or a list of texts"),
        ({"prompt": ["a man", 3]}, InputError, "prompt is 3, a int; expected text, or a list of texts"),
        ({"negative_prompt": 3}, InputError, "negative_prompt is 3, a int; expected text"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1)}, InputError, "prompt_embeds is a Tensor; expected what"),
        ({"height": "32"}, InputError, "height is '32', a str; expected a whole number"),
        ({"width": 32.0}, InputError, r"width is 32\.0, a float; expected a whole number"),
        ({"num_frames": "5"}, InputError, "num_frames is '5', a str; expected a whole number"),
        ({"num_inference_steps": 2.5}, InputError, r"num_inference_steps is 2\.5, a float; expected a whole number"),
        ({"num_videos_per_prompt": "2"}, InputError, "num_videos_per_prompt is '2', a str; expected a whole number"),
        ({"guidance_interval": 0.5}, InputError, r"guidance_interval is 0\.5; expected a pair \(start, end\)"),
        ({"guidance_interval": "0:1"}, InputError, r"guidance_interval is '0:1'; expected a pair"),
        ({"cache": 3}, InputError, "cache 3 is unknown; use none, or easy:THRESHOLD"),
        ({"latents": 3}, InputError, "latents is 3, a int; expected a tensor"),
        ({"audio": (np.zeros((3, 8)), None)}, InputError, "the rate of audio is None, a NoneType; expected a number"),
        ({"audio": (np.zeros((48000, 2)), 48000)}, InputError, r"expected \[channels, samples\], up to 8 channels"),
        ({"callback_on_step_end": 3}, InputError, "callback_on_step_end is a int; expected a function"),
        (
            {"callback_on_step_end": print, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]},
            InputError,
            "names 'prompt_embeds'; expected one of latents, audio_latents",
        ),
        (
            {"callback_on_step_end": lambda *args: {"latents": args[3]["latents"][:, :, :1]}},
            InputError,
            "callback_on_step_end returned latents of shape",
        ),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_call_is_one_clear_error(
    changes: dict[str, Any], error: type[Exception], complaint: str, pipe: MovaPipeline
) -> None:
    with pytest.raises(error, match=complaint) as raised:
        made(pipe, **changes)
    assert "--" not in str(raised.value)


def test_why_diffusers_own_class_cannot_open_a_release_is_as_documented() -> None:
    with pytest.raises(AttributeError, match="module diffusers has no attribute MOVA"):
        DiffusionPipeline.from_pretrained(CHECKPOINT)
    assert "module diffusers has no attribute MOVA" in (GOLDENS.parents[1] / "docs" / "python.md").read_text()
