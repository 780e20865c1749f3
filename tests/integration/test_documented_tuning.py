"""The commands of the guides about training and LoRAs, and MOVA's training scripts, on a small untrained checkpoint."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.finetune_helpers import write_clips
from tests.unit.lora_helpers import tiny_lora
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.lora.writing import save_lora
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_components
from phonofilm.training import finetune_hooks
from phonofilm.training.dry_run.estimate import Estimate
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.finetune_task import FinetuneTask

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHORT = ("max_steps=2", "accumulate=1", "samples.steps=1", "validation.clips=2", "gradient_checkpointing=true")
_estimates: list[Estimate] = []
WAN_FILES = "--lora wan_high.safetensors"  # made for the released width


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    tiny_nano_pipeline(32, 5).save_pretrained(folder / "model")
    write_clips(folder / "clips")
    networks = load_components(read_layout(folder / "model"), skip=("video_vae", "audio_vae", "text_encoder"))
    for seed, name in enumerate(("voice", "look")):
        save_lora(tiny_lora(networks, seed=seed), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _one_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run has tests of its own and takes most of a short training's time: what the first one found is told again."""
    measure = finetune_hooks.finetune_dry_run

    def measured_once(task: FinetuneTask, trainer: Trainer) -> Estimate:
        if not _estimates:
            _estimates.append(measure(task, trainer))
        return _estimates[0]

    monkeypatch.setattr(finetune_hooks, "finetune_dry_run", measured_once)


def commands(page: str) -> list[list[str]]:
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in block.strip().splitlines() if WAN_FILES not in line]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def run(*words: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}\n{result.exception!r}"


def test_the_training_guide(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for words in commands("docs/training.md"):
        run(*(word for word in words if not word.startswith("model=")), "model=model", "device=cpu", *SHORT)
    for name in ("run", "big"):
        assert (place / name / "lora.safetensors").is_file()


def test_the_guide_to_loras(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    run("lora", "convert", "voice.safetensors", "-o", "lora_weights.pt", "--to", "low-resource")
    for words in commands("docs/lora.md"):
        told = ["model" if word in ("360p", "nano") else word for word in words]
        run(*told, *(("--model", "model") if told[0] == "generate" else ()))
    for made in ("MOVA-mine/merged_loras.json", "report/report.md"):
        assert (place / made).is_file()


SCRIPTS = ("low_resource_train", "accelerate_train", "accelerate_train_8gpu")


@pytest.mark.parametrize("script", SCRIPTS)
def test_movas_training_scripts(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """The command that each script starts, taken from it by a `phonofilm` that only notes it."""
    (tmp_path / "bin").mkdir()
    noting = tmp_path / "bin" / "phonofilm"
    noting.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/words"\n')
    noting.chmod(0o755)
    run_script(script, place, tmp_path, str(noting.parent))
    words = (tmp_path / "words").read_text().splitlines()
    mode = {"accelerate_train_8gpu": ["--gpus", "2", "--config", "fsdp"]}.get(script, ["--config", script[:-6]])
    expected = [*mode, "--data", "clips", "--output", str(tmp_path / "run"), "model=model", "device=cpu", *SHORT]
    assert words == ["train", *expected]
    if script == "low_resource_train":  # the guide runs mode accelerate; several processes have tests of their own
        monkeypatch.chdir(place)
        run(*words)
        assert (tmp_path / "run" / "lora.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_movas_training_scripts_as_they_are_started(place: Path, tmp_path: Path, script: str) -> None:
    run_script(script, place, tmp_path, str(Path(sys.executable).parent))
    assert (tmp_path / "run" / "lora.safetensors").is_file()


def run_script(script: str, place: Path, output: Path, programs: str) -> None:
    variables = {"DATA": "clips", "CKPT": "model", "OUTPUT": str(output / "run"), "GPUS": "2", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        ["bash", str(ROOT / f"scripts/training_scripts/example/{script}.sh"), "device=cpu", *SHORT],
        check=True, cwd=place,
        env={**os.environ, "PATH": os.pathsep.join([programs, os.environ["PATH"]]), **variables},
    )  # fmt: skip
