"""Clips made layer by layer are the clips made resident, from memory or files, whatever the slots; experts can be given up."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Golden
from tests.unit.test_streaming import FailingBackend, LateBackend
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError, MediaError, PhonofilmError
from phonofilm.models.layout import read_layout
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.runtime import slab_files
from phonofilm.runtime.backends import HostBackend
from phonofilm.runtime.layer_engine import LayerEngine
from phonofilm.runtime.streamed_loading import LoadedPipeline, SlabFolder, load_for_streaming

CPU = torch.device("cpu")
LAYERS = 4
CLIP = {"prompt": "a man speaks", "height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 3}


def clip(pipe: MovaPipeline, **changes: Any) -> tuple[Tensor, Tensor]:
    """Frames and sound of a short clip that both experts work on."""
    pipe.set_progress_bar_config(disable=True)
    told: dict[str, Any] = {"generator": torch.Generator().manual_seed(3), "output_type": "pt", **CLIP, **changes}
    out = pipe(**told)
    return out.frames, out.audio


def load(checkpoint: Path, dtype: torch.dtype = torch.float32, **options: Any) -> LoadedPipeline:
    return load_for_streaming(read_layout(checkpoint), dtype, CPU, **options)


def streamed(checkpoint: Path, backend: HostBackend | None = None, slots: int = 2, **options: Any) -> MovaPipeline:
    """A pipeline with its engine; options are the loader's."""
    loaded = load(checkpoint, **options)
    LayerEngine(
        loaded.pipe, backend or HostBackend(), slots=slots, resident=options.get("resident", 0), slabs=loaded.slabs
    )
    return loaded.pipe


def engine(pipe: MovaPipeline) -> LayerEngine:
    assert isinstance(pipe.engine, LayerEngine)
    return pipe.engine


@pytest.fixture(scope="module")
def plain(basic: Golden) -> tuple[Tensor, Tensor]:
    return clip(MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.float32))


def assert_same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_a_clip_is_the_same_whatever_the_slots(basic: Golden, plain: tuple[Tensor, Tensor], slots: int) -> None:
    assert_same(clip(streamed(basic.checkpoint, LateBackend(), slots=slots)), plain)


@pytest.mark.parametrize("resident", range(1, LAYERS + 1))
def test_a_clip_is_the_same_whatever_stays_on_the_device(
    basic: Golden, plain: tuple[Tensor, Tensor], resident: int
) -> None:
    assert_same(clip(streamed(basic.checkpoint, LateBackend(), resident=resident)), plain)


@pytest.mark.parametrize("resident", [0, 2])
def test_a_clip_is_the_same_from_files_written_now_or_before(
    basic: Golden, plain: tuple[Tensor, Tensor], tmp_path: Path, resident: int
) -> None:
    kept = SlabFolder(tmp_path / "slabs", "one")
    for _ in range(2):
        pipe = streamed(basic.checkpoint, LateBackend(), resident=resident, store=kept)
        assert engine(pipe).host_bytes == 0
        assert_same(clip(pipe), plain)


def test_a_pipeline_loaded_the_usual_way_streams_and_stops_streaming(
    basic: Golden, plain: tuple[Tensor, Tensor]
) -> None:
    pipe = MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.float32)
    LayerEngine(pipe, HostBackend(), resident=1)
    assert_same(clip(pipe), plain)
    engine(pipe).close()
    assert pipe.engine is None
    assert_same(clip(pipe), plain)


def test_weights_are_converted_as_the_usual_loading_does(basic: Golden) -> None:
    pipe = load(basic.checkpoint, torch.bfloat16, threads=3).pipe
    usual = MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.bfloat16)
    for name in ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge"):
        ours, theirs = getattr(pipe, name).state_dict(), getattr(usual, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
        assert not getattr(pipe, name).training


def test_progress_ends_with_all_bytes_of_the_denoiser(basic: Golden) -> None:
    told: list[tuple[str, int, int]] = []
    loaded = load(basic.checkpoint, progress=lambda *now: told.append(now))
    name, done, total = told[-1]
    assert (name, done) == ("denoiser", total)
    assert loaded.nbytes == total


def test_a_checkpoint_of_one_expert_streams(basic: Golden, single: Path) -> None:
    usual = clip(MovaPipeline.from_pretrained(single, torch_dtype=torch.float32))
    assert_same(clip(streamed(single, LateBackend())), usual)


@pytest.fixture
def single(basic: Golden, tmp_path: Path) -> Path:
    """The golden checkpoint without its low-noise expert."""
    root = tmp_path / "single"
    root.mkdir()
    for path in basic.checkpoint.iterdir():
        if path.name not in ("video_dit_2", "model_index.json"):
            (root / path.name).symlink_to(path)
    index = json.loads((basic.checkpoint / "model_index.json").read_text())
    (root / "model_index.json").write_text(json.dumps(index | {"video_dit_2": [None, None]}))
    return root


def test_copies_of_a_clip_are_those_of_its_experts_and_the_guess_that_follows(basic: Golden) -> None:
    backend = HostBackend()
    pipe = streamed(basic.checkpoint, backend)
    clip(pipe)
    high, low = engine(pipe)._streamer.streamed_bytes
    assert high == low
    assert 3 * high <= backend.bytes_copied < 4 * high


def test_removing_the_high_noise_expert_frees_its_slabs_after_the_switch(
    basic: Golden, plain: tuple[Tensor, Tensor]
) -> None:
    pipe = streamed(basic.checkpoint)
    before, own = engine(pipe).host_bytes, sum(p.nbytes for p in pipe.video_dit.blocks.parameters())
    slab = weakref.ref(next(pipe.video_dit.blocks.parameters()).untyped_storage())
    seen: list[tuple[int, bool]] = []

    def look(_: Any, index: int, timestep: float, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((engine(pipe).host_bytes, pipe.video_dit is None))
        return tensors

    assert_same(clip(pipe, remove_video_dit=True, callback_on_step_end=look), plain)
    gc.collect()
    assert seen[0] == (before, False)
    assert seen[-1][1]
    assert before - seen[-1][0] >= own
    assert slab() is None
    with pytest.raises(InputError, match="high-noise expert was removed"):
        clip(pipe)


PROMPT_COPIES = 2 * 2 * 10  # prompt and negative prompt, two blocks of ten tensors
WHERE = [(11, r"copying block 1 of the text encoder"), (PROMPT_COPIES + 13, r"copying layer \d of expert \d")]


@pytest.mark.parametrize(("copies", "where"), WHERE, ids=["prompt", "step"])
def test_a_copy_that_fails_stops_the_clip_and_the_next_one_is_whole(
    basic: Golden, plain: tuple[Tensor, Tensor], copies: int, where: str
) -> None:
    backend = FailingBackend(copies)
    pipe = streamed(basic.checkpoint, backend)
    with pytest.raises(PhonofilmError, match=where + ".* failed: the link is down"):
        clip(pipe)
    backend.left = -1
    assert_same(clip(pipe), plain)


class FullAtCopy(HostBackend):
    """Runs out of memory at the copy of this number, once."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.number -= 1
        if self.number == 0:
            raise torch.OutOfMemoryError("tried to allocate 1 GB")
        super().copy(source, target)


@pytest.mark.parametrize(("copies", "where"), WHERE, ids=["prompt", "step"])
def test_memory_that_runs_out_in_the_middle_says_where_and_the_next_clip_is_whole(
    basic: Golden, plain: tuple[Tensor, Tensor], copies: int, where: str
) -> None:
    pipe = streamed(basic.checkpoint, FullAtCopy(copies))
    with pytest.raises(PhonofilmError, match=where + ".*tried to allocate 1 GB"):
        clip(pipe)
    assert_same(clip(pipe), plain)


def test_files_are_used_again_if_whole_and_written_again_if_not(basic: Golden, tmp_path: Path) -> None:
    kept = SlabFolder(tmp_path / "slabs", "one")
    whole = load(basic.checkpoint, store=kept).nbytes
    again = load(basic.checkpoint, store=kept).nbytes
    assert 0 < again < whole / 2  # embeddings and heads only
    part = next(kept.folder.glob("expert-0-*"))
    part.write_bytes(part.read_bytes()[:-1])
    assert load(basic.checkpoint, store=kept).nbytes == whole
    assert load(basic.checkpoint, store=kept).nbytes == again
    assert load(basic.checkpoint, store=SlabFolder(kept.folder, "another training")).nbytes == whole
    assert load(basic.checkpoint, torch.bfloat16, store=SlabFolder(kept.folder, "another training")).nbytes == whole
    assert [path.name for path in tmp_path.iterdir()] == ["slabs"]


def test_what_changes_in_memory_is_streamed_and_leaves_the_files_alone(
    basic: Golden, plain: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    """A LoRA merged into one run's weights is not in the next one's."""
    kept = SlabFolder(tmp_path / "slabs", "one")
    pipe = streamed(basic.checkpoint, store=kept)
    with torch.no_grad():
        for parameter in pipe.video_dit.blocks[0].ffn.parameters():
            parameter.mul_(1.5)
    engine(pipe).weights_changed()
    assert not torch.equal(clip(pipe)[0], plain[0])
    assert_same(clip(streamed(basic.checkpoint, store=kept)), plain)


def test_a_store_that_cannot_be_finished_leaves_nothing(
    basic: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(MediaError, match="cannot write"):
        load(basic.checkpoint, store=SlabFolder(tmp_path / "taken" / "slabs", "one"))

    def fails(*_: Any) -> None:
        raise CheckpointError("it changed")

    monkeypatch.setattr("phonofilm.runtime.streamed_loading.fill", fails)
    with pytest.raises(CheckpointError, match="it changed"):
        load(basic.checkpoint, store=SlabFolder(tmp_path / "slabs", "one"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_disk_without_room_is_refused_before_anything_is_written(
    basic: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(slab_files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"would take .* and its disk has 1.0 kB free"):
        load(basic.checkpoint, store=SlabFolder(tmp_path / "slabs", "one"))
    assert not list(tmp_path.iterdir())
