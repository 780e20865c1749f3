"""`phonofilm generate --gpus N`, tried on the host: the clip of one device, one voice, and nothing left by a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import relative_error
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, generate
from tests.integration.several_work import die_in_the_first_step

from phonofilm.cli.asked import Asked
from phonofilm.cli.order import Order
from phonofilm.cli.several import on_ranks
from phonofilm.parallel.ranks import RankError
from phonofilm.parallel.team import Several

TWO = ("--device", "cpu", "--gpus", "2")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The latents that one device makes."""
    out = tmp_path_factory.mktemp("alone") / "clip.safetensors"
    done = generate(*TINY, "-i", IMAGE, "-o", out)
    assert done.exit_code == 0, done.output
    return load_file(out)


@pytest.mark.parametrize("options", [(), ("--ring-degree", "2"), ("--cfg-parallel",), ("--shard-weights",)])
def test_two_devices_make_the_clip_of_one(
    options: tuple[str, ...], alone: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    out = tmp_path / "clip.safetensors"
    done = generate(*TINY, "-i", IMAGE, "-o", out, *TWO, *options)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(out)]
    together = load_file(out)
    assert together.keys() == alone.keys()
    for name, latents in together.items():
        assert relative_error(latents, alone[name]) < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["clip.safetensors"]


def test_a_device_that_dies_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    asked = Asked(prompt="a man speaks", size="32x32", num_frames=5, steps=2, seed=1, output=tmp_path / "clip.mp4")
    order = Order(asked, model=str(CHECKPOINT), device="cpu")
    with pytest.raises(RankError, match=r"rank 1 was ended by signal 9"):
        on_ranks(Several(gpus=2), "cpu", die_in_the_first_step, order)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--device", "cuda:0", "--gpus", "2"), "device cuda:0 is one device, and 2 ranks need one each"),
        (("--gpus", "99"), "99 devices were asked for, and PyTorch sees"),
        (("--ulysses-degree", "2"), "--ulysses-degree would change nothing on one device; use --gpus N"),
        (("--ring-degree", "2"), "--ring-degree would change nothing on one device; use --gpus N"),
        (("--cfg-parallel",), "--cfg-parallel would change nothing on one device; use --gpus N"),
        (("--shard-weights",), "--shard-weights would change nothing on one device; use --gpus N"),
        ((*TWO, "--remove-video-dit"), "--remove-video-dit is for one device"),
        ((*TWO, "--offload", "layer"), "--offload layer is for one device"),
        ((*TWO, "--shard-weights", "--offload", "cpu"), "keeps weights on the devices, and --offload cpu off them"),
    ],
)
def test_what_does_not_go_with_several_devices_is_refused(
    options: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    done = generate(*TINY, "-o", tmp_path / "clip.mp4", *options)
    assert done.exit_code == 2, done.output
    assert complaint in " ".join(done.output.split())


def test_a_mesh_that_cannot_be_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    done = generate(*TINY, *TWO, "--ulysses-degree", "5", "-o", tmp_path / "clip.mp4")
    assert done.exit_code == 1
    assert "makes 5 devices, and there are 2; use ulysses" in " ".join(done.output.split())
    assert "loaded" not in done.output
