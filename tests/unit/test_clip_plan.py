"""A clip's plan: every setting resolved and checked against a checkpoint, before any weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import GOLDENS, writable_copy

from phonofilm.errors import InputError, MediaError
from phonofilm.generation.checkpoint import Checkpoint, open_checkpoint
from phonofilm.generation.clip_plan import ClipPlan, plan_clip
from phonofilm.generation.inputs import read_inputs
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.provenance import clip_metadata
from phonofilm.generation.summary import memory_warning, plan_line
from phonofilm.pipeline.call_arguments import NEGATIVE_PROMPT

CPU = DevicePlacement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(GOLDENS / "basic" / "checkpoint"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save("wide.png")
    Path("broken.png").write_bytes(b"\x89PNG nothing")


def planned(checkpoint: Checkpoint, **options: Any) -> ClipPlan:
    asked = ClipOptions(**{"prompt": "a man"} | options)
    choose_outputs_of(asked, overwrite=False)
    return plan_clip(read_inputs(asked), checkpoint)


def test_what_is_not_asked_for_comes_from_the_checkpoint(checkpoint: Checkpoint) -> None:
    found = planned(checkpoint, seed=3)
    assert found.settings() == {
        "prompt": "a man",
        "negative_prompt": NEGATIVE_PROMPT,
        "size": "640x352",
        "num_frames": 193,
        "fps": "24",
        "steps": 50,
        "guidance_scale": 5.0,
        "audio_guidance_scale": 5.0,
        "modality_scale": "1.0",
        "video_shift": 5.0,
        "audio_shift": 5.0,
        "boundary_ratio": 0.9,
        "guidance_interval": "0:1",
        "solver": "euler",
        "cache": "none",
    }


@pytest.mark.parametrize(
    ("size", "image", "expected"),
    [
        ("360p", None, (352, 640)),
        ("720p", None, (720, 1280)),
        ("48x32", None, (32, 48)),
        ("auto", Path("wide.png"), (384, 576)),
    ],
)
def test_sizes_are_named_spelled_out_or_taken_from_the_image(
    checkpoint: Checkpoint, size: str, image: Path | None, expected: tuple[int, int]
) -> None:
    geometry = planned(checkpoint, size=size, image=image).sampling.task.geometry
    assert (geometry.height, geometry.width) == expected


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"), [(2.0, "24", 49), (2.0, "23.976", 49), (0.01, "24", 1), (8, "25", 201)]
)
def test_seconds_become_the_nearest_frame_count(checkpoint: Checkpoint, seconds: float, fps: str, frames: int) -> None:
    assert planned(checkpoint, seconds=seconds, fps=fps).sampling.task.geometry.num_frames == frames


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompt": None}, "the prompt is empty"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": "word " * 10_000}, r"the prompt has \d+ tokens and the model reads 512; shorten it"),
        ({"negative_prompt": "word " * 10_000}, "the negative prompt has"),
        ({"size": "640x350"}, "height 350 is not a multiple of 16; use 352"),
        ({"size": "0x32"}, "width 0 is outside"),
        ({"size": "-16x32"}, "width -16 is outside"),
        ({"size": "1000000x32"}, "width 1000000 is outside"),
        ({"size": "big"}, "size 'big' is not WIDTHxHEIGHT"),
        ({"size": "48x32x3"}, "is not WIDTHxHEIGHT"),
        ({"size": "auto"}, "size auto takes the shape of the image, and none was given"),
        ({"num_frames": 50}, r"num_frames 50 is not 1 \+ a multiple of 4; use 49"),
        ({"num_frames": 0}, "num_frames 0 is outside"),
        ({"num_frames": -3}, "num_frames -3 is outside"),
        ({"num_frames": 9, "seconds": 1.0}, "seconds and num_frames were both given"),
        ({"seconds": 0.0}, "seconds 0 is not positive"),
        ({"seconds": float("nan")}, "seconds nan is not positive"),
        ({"seconds": 1e9}, "seconds 1e\\+09 is more than 3600"),
        ({"fps": "0"}, "frame rate 0 is outside"),
        ({"fps": "fast"}, "frame rate 'fast' is not a number"),
        ({"steps": 0}, "steps 0 is outside 1 to 1000"),
        ({"steps": 10**9}, "steps 1000000000 is outside"),
        ({"guidance_scale": float("nan")}, "guidance_scale nan is outside"),
        ({"modality_scale": "1,inf"}, "modality_scale inf is outside"),
        ({"video_shift": 0.0}, "video_shift 0 is outside 0.001 to 1000"),
        ({"audio_shift": float("inf")}, "audio_shift inf is outside 0.001 to 1000"),
        ({"boundary_ratio": 1.5}, "boundary_ratio 1.5 is outside 0 to 1"),
        ({"guidance_scale": 1e308}, "guidance_scale 1e[+]308 is outside -1000 to 1000"),
        ({"modality_scale": "nan"}, "modality_scale nan is outside"),
        ({"seed": -1}, "seed -1 is outside"),
        ({"seed": 2**64}, "is outside 0 to"),
        ({"num_clips": 0}, "num_clips 0 is outside"),
        ({"num_clips": 10**6}, "num_clips 1000000 is outside"),
        ({"image": Path("none.png")}, "image: no file at none.png"),
        ({"image_fit": "crop"}, "image_fit was given without image or last_image"),
        ({"image": Path("wide.png"), "image_fit": "stretch"}, "image_fit 'stretch' is unknown; use one of crop"),
        ({"last_image": Path("wide.png"), "num_frames": 1}, "a last frame was given for a clip of one frame"),
        ({"retake": "1:2"}, "retake was given without video"),
        ({"retake_tracks": "audio"}, "retake_tracks was given without retake"),
        ({"overlap_frames": 5}, "overlap_frames was given without continue_from"),
        ({"audio": Path("wide.png"), "video": Path("wide.png")}, "give one of video, audio, continue_from and voice"),
        ({"output": Path("a.avi")}, "unknown kind .avi"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_reason(
    checkpoint: Checkpoint, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        planned(checkpoint, **options)


def test_a_broken_image_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(MediaError, match=r"broken\.png cannot be read as an image"):
        planned(checkpoint, image=Path("broken.png"))


def test_clip_i_has_the_first_seed_plus_i(checkpoint: Checkpoint) -> None:
    first = planned(checkpoint, seed=7, num_clips=3)
    assert first.seed == 7
    assert "3 clips, seeds 7 to 9" in plan_line(first, checkpoint, CPU, clips=3)
    assert planned(checkpoint).seed != planned(checkpoint).seed


def test_the_plan_knows_which_expert_runs_when(checkpoint: Checkpoint) -> None:
    # The released schedule: 18 steps of 50 for the high-noise expert.
    assert planned(checkpoint, steps=50).sampling.experts == ("high",) * 18 + ("low",) * 32
    assert set(planned(checkpoint, boundary_ratio=0.0).sampling.experts) == {"high"}


def test_the_plan_line_says_what_will_be_made(checkpoint: Checkpoint) -> None:
    line = plan_line(planned(checkpoint, seconds=2.0, size="48x32", seed=9, modality_scale="3.5,1"), checkpoint, CPU)
    assert line.startswith("checkpoint/ · 48x32 · 49 frames, 2.042 s at 24 fps · text only (no first frame) · ")
    assert (
        "50 steps (18 high-noise + 32 low-noise) · 2-3 forwards a step, 149 in all, guidance 5, modality 3.5 to 1"
        in line
    )
    assert line.endswith("· cpu float32 · seed 9 · weights 3.7 MB")


def test_the_plan_line_counts_one_forward_without_guidance(checkpoint: Checkpoint) -> None:
    assert "1 forward a step, 50 in all, guidance 1 ·" in plan_line(
        planned(checkpoint, guidance_scale=1.0), checkpoint, CPU
    )


def test_the_metadata_tells_no_folder_of_this_machine(checkpoint: Checkpoint, tmp_path: Path) -> None:
    told = clip_metadata(planned(checkpoint, image=tmp_path / "wide.png"), checkpoint, CPU)
    assert str(tmp_path) not in str(told)
    assert str(GOLDENS) not in str(told)
    assert told["inputs"][0]["path"] == "wide.png"


def test_the_fingerprint_tells_weights_apart(checkpoint: Checkpoint, tmp_path: Path) -> None:

    copy = tmp_path / "copy"
    writable_copy(GOLDENS / "basic" / "checkpoint", copy)
    assert open_checkpoint(str(copy)).fingerprint == checkpoint.fingerprint
    weights = copy / "audio_dit" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-200:] = bytes(200)
    weights.write_bytes(content)
    assert open_checkpoint(str(copy)).fingerprint != checkpoint.fingerprint


def test_weights_too_large_for_the_memory_are_pointed_out(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    assert memory_warning(checkpoint, CPU) is None
    tiny = psutil.virtual_memory()._replace(total=10**6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: tiny)
    warning = memory_warning(checkpoint, CPU)
    assert warning is not None
    assert warning.startswith("the weights take 3.7 MB and host memory has 1.0 MB; dtype=bfloat16")
