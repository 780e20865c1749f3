"""`phonofilm generate` with weights that wait elsewhere: the same clip, what is said before loading, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.integration.cli import TINY, generate, made
from tests.unit.checkpoints import copy_golden

from phonofilm import load, read_clip
from phonofilm.generation.latent_files import read_latent_metadata
from phonofilm.media import read_metadata
from phonofilm.models.audio_vae import DAC
from phonofilm.models.layers import Block
from phonofilm.models.one_pass import OnePass
from phonofilm.runtime.backends import HostBackend

OUT = ("-o", "clip.safetensors", "--overwrite")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def latents(*options: str | Path) -> dict[str, torch.Tensor]:
    (path,) = made(*TINY, *OUT, *options)
    return load_file(path)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("usual") / "clip.safetensors"
    made(*TINY, "-o", path, "--offload", "none")
    return load_file(path)


@pytest.mark.parametrize(
    ("options", "offload"),
    [
        ((), "none"),
        (("--offload", "auto"), "none"),
        (("--offload", "model"), "model"),
        (("--offload", "layer"), "layer"),
        (("--slots", "1", "--resident-layers", "3"), "layer"),
        (("--offload", "layer", "--remove-video-dit"), "layer"),
        (("--vram-limit", "8GB"), "none"),
        (("--offload", "layer", "--vram-limit", "800 MB", "--ram-limit", "1GiB"), "layer"),
    ],
    ids=" ".join,
)
def test_where_weights_wait_changes_no_clip(
    options: tuple[str, ...], offload: str, usual: dict[str, torch.Tensor]
) -> None:
    found = latents(*options)
    assert all(torch.equal(found[name], usual[name]) for name in usual)
    assert read_latent_metadata(Path("clip.safetensors"))["offload"] == offload


def test_where_a_file_has_its_weights_changes_no_clip(usual: dict[str, torch.Tensor], tmp_path: Path) -> None:
    folder = copy_golden(tmp_path)
    for file in folder.rglob("*.safetensors"):
        save_file(load_file(file), file, metadata={"shift": "x" * 24})
    with load(folder, device="cpu", dtype="float32") as session:
        weights = [weight for network in session.pipeline.components.values() for weight in _weights(network)]
        assert weights
        assert not any(weight.data_ptr() % 64 for weight in weights)
    found = latents("--model", folder, "--offload", "none")
    assert all(torch.equal(found[name], usual[name]) for name in usual)


def _weights(network: object) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()] if isinstance(network, torch.nn.Module) else []


def test_layers_on_disk_are_written_once_and_change_no_clip(usual: dict[str, torch.Tensor]) -> None:
    on_disk = ("--offload-to-disk", "layers")
    first = latents(*on_disk)
    (folder,) = Path("layers").iterdir()
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = latents(*on_disk, "--resident-layers", "1", "--slots", "3")
    for found in (first, again):
        assert all(torch.equal(found[name], usual[name]) for name in usual)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    assert read_latent_metadata(Path("clip.safetensors"))["offload"] == "layer"


def test_the_plan_is_said_before_anything_is_loaded() -> None:
    told = generate(*TINY, *OUT, "--offload", "layer", "--vram-limit", "0.8", "--slots", "3").stderr
    kept = "3 resident, the prompts' keys and values kept"
    line = f"0.8 GB free: streaming 1 layers through 3 slots, {kept}, the text encoder block by block"
    assert told.index(line) < told.index("loaded ")
    assert "of weights in" in told


def test_a_resident_layer_more_is_a_layer_less_to_stream() -> None:
    told = generate(*TINY, *OUT, "--offload", "layer", "--vram-limit", "8GB", "--resident-layers", "1").stderr
    assert "streaming 3 layers through 2 slots, 1 resident" in told


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--vram-limit", "500MB"), "What would fit: 0.604 GB of free device memory, with offload layer"),
        (("--vram-limit", "8GB", "--ram-limit", "1MB", "--offload", "layer"), "What fits: offload none"),
        (("--offload", "none", "--vram-limit", "600MB"), "offload none needs 0.6"),
        (("--vram-limit", "a lot"), "--vram-limit 'a lot' is no amount of memory"),
        (("--ram-limit", "0GB"), "--ram-limit '0GB' is no amount of memory"),
        (("--ram-limit", "8GB"), "--ram-limit needs a device to plan for"),
        (("--offload", "none", "--slots", "2"), "--slots would change nothing with --offload none"),
        (("--offload", "group", "--vram-limit", "8GB"), "--vram-limit would change nothing with --offload group"),
        (("--offload", "none", "--offload-to-disk", "d"), "offload is none; use offload group or layer"),
        (("--offload", "layer", "--resident-layers", "5"), "5 resident layers were asked of a tower with 4"),
        (("--remove-video-dit", "-n", "2"), "--remove-video-dit leaves nothing to begin a second clip with"),
        (("--offload", "disk"), "offload 'disk' is unknown; use one of auto, none, model, layer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_before_weights_are_read(options: tuple[str, ...], complaint: str) -> None:
    done = generate(*TINY, *OUT, *options)
    assert done.exit_code == 2
    assert complaint in " ".join(done.output.split())
    assert "loaded " not in done.stderr
    assert not list(Path().iterdir())


def test_a_copy_that_fails_is_an_error_that_says_so_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, left = HostBackend.copy, 52  # 40 of them for prompt and negative prompt

    def copy(self: HostBackend, source: torch.Tensor, target: torch.Tensor) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("the link is down")
        whole(self, source, target)

    monkeypatch.setattr(HostBackend, "copy", copy)
    done = generate(*TINY, "-o", "clip.mp4", "--offload", "layer")
    assert done.exit_code == 1
    assert "failed: the link is down" in done.output
    assert "step 1/2" in done.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize("where", ["allocate", "copy"])
def test_running_out_of_device_memory_is_an_error_that_says_so_and_leaves_no_file(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 1 GB")

    monkeypatch.setattr(HostBackend, where, full)
    done = generate(*TINY, "-o", "clip.mp4", "--offload", "layer")
    assert done.exit_code == 1
    assert ("out of memory on cpu" if where == "allocate" else "tried to allocate 1 GB") in done.output
    assert not list(Path().iterdir())


@pytest.mark.parametrize("offload", ["none", "layer"])
def test_a_forward_that_runs_out_of_memory_in_the_middle_says_what_helps_and_leaves_no_file(
    offload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = Block.forward, 25

    def forward(*given: Any, **named: Any) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise torch.OutOfMemoryError("tried to allocate 1 GB")
        return whole(*given, **named)

    monkeypatch.setattr(Block, "forward", forward)
    done = generate(*TINY, "-o", "clip.mp4", "--offload", offload)
    assert done.exit_code == 1
    assert "step 1/2" in done.stderr
    assert "out of memory on cpu; try a smaller size, fewer frames, --vae-tiling" in " ".join(done.output.split())
    assert not list(Path().iterdir())


@pytest.mark.parametrize("part", [OnePass, DAC])
def test_a_decoder_that_runs_out_of_memory_leaves_no_file(
    part: type[OnePass | DAC], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 1 GB")

    monkeypatch.setattr(part, "decode", full)
    done = generate(*TINY, "-o", "clip.mp4")
    assert done.exit_code == 1
    assert "step 2/2" in done.stderr
    assert "out of memory on cpu" in done.output
    assert not list(Path().iterdir())


def test_decoding_in_tiles_is_told_in_the_file_and_nearly_the_same() -> None:
    wide = ("a man speaks", "--size", "320x32", "--num-frames", "1", "--steps", "1", "--seed", "1")
    made(*wide, "-o", "whole", "--output-type", "frames")
    made(*wide, "-o", "tiles", "--output-type", "frames", "--vae-tiling")
    assert "vae_tiling" not in read_metadata("whole")
    assert read_metadata("tiles")["vae_tiling"] is True
    whole, tiles = (read_clip(name).frames.astype(int) for name in ("whole", "tiles"))
    assert 0 < abs(whole - tiles).mean() < 16
