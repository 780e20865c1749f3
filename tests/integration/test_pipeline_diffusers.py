"""The pipeline for people who know diffusers: where weights may wait, and what a wrong call or a foreign part is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def test_a_foreign_scheduler_is_refused_with_what_to_do_instead() -> None:
    pipe = MovaPipeline.from_pretrained(CHECKPOINT)
    pipe.scheduler = UniPCMultistepScheduler()
    with pytest.raises(InputError, match=r'UniPCMultistepScheduler; MOVA needs .* pass solver="unipc"'):
        made(pipe)


def test_a_dtype_as_text_is_refused() -> None:
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
    ],
    ids=["number as text", "unknown word", "wrong type", "no such address", "no prompt"],
)
def test_a_wrong_call_is_one_clear_error(changes: dict[str, Any], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint) as raised:
        made(MovaPipeline.from_pretrained(CHECKPOINT), **changes)
    assert "--" not in str(raised.value)


def test_why_diffusers_own_class_cannot_open_a_release_is_as_documented() -> None:
    with pytest.raises(AttributeError, match="module diffusers has no attribute MOVA"):
        DiffusionPipeline.from_pretrained(CHECKPOINT)
    assert "module diffusers has no attribute MOVA" in (GOLDENS.parents[1] / "docs" / "python.md").read_text()
