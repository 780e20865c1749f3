"""How many bytes a given clip takes while it is worked on, counted as they are asked for; no clock, no resident set."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from phonofilm.geometry import ClipGeometry
from phonofilm.media.clip import Clip
from phonofilm.media.picture import measure_picture
from phonofilm.media.write import save_clip
from phonofilm.pipeline import edit_tasks
from phonofilm.pipeline.decode import MovaPipelineOutput, to_output_type
from phonofilm.pipeline.edit_tasks import EditTask
from phonofilm.pipeline.types import Decoded

FRAMES, SIDE, RATE = 17, 256, 16_000
RAW = FRAMES * SIDE * SIDE * 3
GEOMETRY = ClipGeometry(SIDE, SIDE, FRAMES, Fraction(24), 8, 4, RATE, 320, 2)


class Allocated(TorchDispatchMode):
    """Bytes of all storages that torch makes in the block, whether they are let go of or not."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and one.untyped_storage().data_ptr() not in before:
                self.nbytes += one.untyped_storage().nbytes()
        return result


@pytest.fixture(scope="module")
def clip() -> Clip:
    chance = np.random.default_rng(0)
    frames = chance.integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
    return Clip(frames, Fraction(24), np.zeros((1, RATE * FRAMES // 24), np.float32), RATE)


def joined(task: EditTask) -> tuple[MovaPipelineOutput, int]:
    """What comes of a clip that the model made white and silent, and the bytes that torch took for it."""
    window = task.geometry
    made = Decoded(
        torch.ones(window.num_frames, 3, window.height, window.width), torch.zeros(1, window.num_samples), RATE
    )
    with Allocated() as allocated:
        out = to_output_type([task.join(made)], "pil")
    return MovaPipelineOutput(*out, RATE, window.frame_rate), allocated.nbytes


def test_a_clip_that_gets_sound_is_never_turned_into_floats(clip: Clip) -> None:
    small = ClipGeometry(64, 64, FRAMES, Fraction(24), 8, 4, RATE, 320, 2)
    out, taken = joined(edit_tasks.sound_for_video(clip, small))
    assert taken < RAW / 50
    tracemalloc.start()
    (whole,) = out.clips()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(whole.frames, clip.frames)
    assert peak < RAW + 4 * SIDE * SIDE * 3


@pytest.mark.parametrize(
    ("task", "own", "floats"),
    [
        # Each frame of the clip's own is turned into floats in its turn; the extended clip's floats are made once.
        (lambda clip: edit_tasks.retake(clip, GEOMETRY, (0.4, 0.6), "both"), 9, FRAMES),
        (lambda clip: edit_tasks.continuation(clip, GEOMETRY, 5), 12, 12 + FRAMES + 12 + 3 * 5),
    ],
)
def test_a_clip_that_is_mended_or_extended_is_converted_once(
    clip: Clip, task: Callable[[Clip], EditTask], own: int, floats: int
) -> None:
    out, taken = joined(task(clip))
    assert taken <= 1.1 * floats * SIDE * SIDE * 12
    (whole,) = out.clips()
    assert np.array_equal(whole.frames[:own], clip.frames[:own])
    assert (whole.frames[own:] == 255).any()


def test_a_picture_is_measured_without_keeping_a_frame(clip: Clip, tmp_path: Path) -> None:
    file = save_clip(clip, tmp_path / "clip.mp4")
    measure_picture(file, 1)  # imports
    tracemalloc.start()
    size = measure_picture(file, 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (size.frames, size.height, size.width, size.frame_rate) == (FRAMES, SIDE, SIDE, Fraction(24))
    assert measure_picture(file, 5).frames == 5
    assert peak < SIDE * SIDE * 3
