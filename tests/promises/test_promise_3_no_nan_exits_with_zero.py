"""Promise 3: never exit 0 with NaN or infinity in what goes in or comes out, whatever kind of file is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.integration.cli import TINY, generate
from tests.unit.checkpoints import WEIGHTS, copy_golden, edit_weights

OUTPUTS = ("a.mp4", "a.webm", "a.gif", "a.safetensors", "frames")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(root: Path, output: str) -> None:
    done = generate(*TINY, "-m", root, "-o", output, model=False)
    assert done.exit_code == 1, done.output
    assert "NaN or infinity" in done.stderr.splitlines()[-1]
    assert not Path(output).exists()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("component", ["video_dit", "audio_dit"])
def test_a_model_that_makes_nan_makes_no_file(tmp_path: Path, component: str, output: str) -> None:
    root = copy_golden(tmp_path / "m")
    edit_weights(root / component / WEIGHTS, lambda state: state["head.head.bias"].fill_(float("nan")))
    refused(root, output)


@pytest.mark.parametrize("output", ["a.mp4", "a.gif", "frames"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_decoder_that_makes_nan_makes_no_file(tmp_path: Path, value: float, output: str) -> None:
    root = copy_golden(tmp_path / "m")
    edit_weights(root / "video_vae" / WEIGHTS, lambda state: state["decoder.conv_out.bias"].fill_(value))
    refused(root, output)


def test_nan_stops_a_run_after_its_first_step(tmp_path: Path) -> None:
    root = copy_golden(tmp_path / "m")
    edit_weights(root / "video_dit" / WEIGHTS, lambda state: state["head.head.bias"].fill_(float("nan")))
    done = generate(
        "a", "--size", "32x32", "--num-frames", "5", "--steps", "50", "-m", root, "-o", "a.mp4", model=False
    )
    assert done.exit_code == 1
    assert "after its first step" in done.stderr.splitlines()[-1]


def test_latents_with_nan_are_never_written(tmp_path: Path) -> None:
    from phonofilm.errors import MediaError
    from phonofilm.generation.latent_files import save_latents

    video, audio = torch.zeros(1, 4, 2, 4, 4), torch.full((1, 4, 8), float("inf"))
    with pytest.raises(MediaError, match="audio_latents holds NaN or infinity"):
        save_latents(video, audio, {}, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
