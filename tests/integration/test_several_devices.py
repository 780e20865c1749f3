"""`phonofilm generate --gpus N`, tried on the host: the clip of one device, one voice, and nothing left by a failure."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import relative_error, writable_copy
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, generate
from tests.integration.several_work import die_in_the_first_step, run_out_of_memory_in_the_first_step
from tests.unit.lora_helpers import tiny_components, tiny_lora

from phonofilm import load, read_clip
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.placement.ranks import on_ranks
from phonofilm.generation.report import Cancelled, Event, Loading, StepDone
from phonofilm.generation.run import RunOptions
from phonofilm.lora.writing import save_lora
from phonofilm.parallel.parallel_session import ParallelConfig, ParallelSession

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


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--quantize", "int8"), marks=pytest.mark.slow),
        pytest.param(("--cache", "easy:0.5", "--solver", "unipc", "--steps", "5"), marks=pytest.mark.slow),
        ("--lora", "voice.safetensors"),
    ],
    ids=lambda options: options[0],
)
def test_what_else_changes_a_clip_changes_it_alike_on_two_devices(
    options: tuple[str, ...], alone: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_lora(tiny_lora(tiny_components(), alpha=0.4), Path("voice.safetensors"))
    made = {}
    for name, devices in (("one", ("--device", "cpu")), ("two", TWO)):
        done = generate(*TINY, "-i", IMAGE, "-o", f"{name}.safetensors", *options, *devices)
        assert done.exit_code == 0, done.output
        made[name] = load_file(f"{name}.safetensors")
    for name, latents in made["two"].items():
        assert relative_error(latents, made["one"][name]) < 1e-5
    assert any(relative_error(latents, alone[name]) > 1e-4 for name, latents in made["two"].items())


def test_a_session_on_two_devices_makes_the_clips_of_one_and_ends_them_when_cancelled() -> None:
    small: dict[str, Any] = {"size": "32x32", "num_frames": 5, "steps": 2, "seed": 1}
    told: list[Event] = []
    with load(CHECKPOINT, device="cpu") as one, load(CHECKPOINT, device="cpu", gpus=2) as two:
        assert not two.is_loaded
        clip, same = (session.generate("a man sings", **small) for session in (two, one))
        assert abs(clip.frames.astype(int) - same.frames).max() <= 1
        assert clip.metadata == same.metadata
        for prompt, image in (("a man speaks", Image.open(IMAGE)), ("a man sings", None)):
            alone = one.run(one.plan(prompt, image=image, **small), output_type="latent")
            together = two.run(two.plan(prompt, image=image, **small), told.append, output_type="latent")
            assert relative_error(together.frames, alone.frames) < 1e-5
            assert relative_error(together.audio, alone.audio) < 1e-5
        assert not any(isinstance(event, Loading) for event in told)  # the first clip's weights are there still
        assert [event.done for event in told if isinstance(event, StepDone)] == [1, 2, 1, 2]
        with pytest.raises(Cancelled):
            two.generate("a man", on_progress=lambda event: not isinstance(event, StepDone), **small)
        assert not two.is_loaded
        with pytest.raises(InputError, match="a session of several devices has a pipeline in each of their processes"):
            two.pipeline  # noqa: B018 - a property


def test_a_failure_in_a_process_of_a_session_is_raised_in_it(tmp_path: Path) -> None:
    checkpoint = writable_copy(CHECKPOINT, tmp_path / "checkpoint")
    with load(checkpoint, device="cpu", gpus=2) as session:
        shutil.rmtree(checkpoint / "video_vae")
        with pytest.raises(PhonofilmError, match="the component video_vae is missing"):
            session.generate("a man", size="32x32", num_frames=5, steps=1, seed=1)
        assert not session.is_loaded


def test_two_devices_make_a_file_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a man speaks\na man sings\n")
    done = generate(*TINY[1:], "--prompts", tmp_path / "prompts.txt", "-o", tmp_path / "clips", *TWO)
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "clips").iterdir()) == ["0001.mp4", "0002.mp4"]


@pytest.mark.parametrize("options", [(), ("--vae-tiling",)], ids=["whole", "tiles"])
def test_two_devices_decode_the_picture_of_one(options: tuple[str, ...], tmp_path: Path) -> None:
    wide = ("a man speaks", "--size", "320x64", "--num-frames", "5", "--steps", "1", "--seed", "1", *options)
    frames = []
    for name, devices in (("alone", ("--device", "cpu")), ("together", TWO)):
        done = generate(*wide, "-o", tmp_path / name, "--output-type", "frames", *devices)
        assert done.exit_code == 0, done.output
        frames.append(read_clip(tmp_path / name).frames.astype(int))
    assert frames[0].shape == (5, 64, 320, 3)
    assert abs(frames[0] - frames[1]).max() <= 1


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (die_in_the_first_step, r"rank 1 was ended by signal 9"),
        (run_out_of_memory_in_the_first_step, r"out of memory on cpu; try a smaller size"),
    ],
)
def test_a_device_that_fails_in_the_middle_leaves_no_file(
    fault: Callable[[ParallelSession, RunOptions], list[Path]], complaint: str, tmp_path: Path
) -> None:
    clip = ClipOptions(prompt="a man speaks", size="32x32", num_frames=5, steps=2, seed=1, output=tmp_path / "clip.mp4")
    options = RunOptions(clip, HardwareOptions(device="cpu", gpus=2), model=str(CHECKPOINT))
    with pytest.raises(PhonofilmError, match=complaint):
        on_ranks(ParallelConfig(gpus=2), "cpu", fault, options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_ends_when_a_rank_is_killed_in_the_middle(tmp_path: Path) -> None:
    clip = ("--size", "32x32", "--num-frames", "5", "--steps", "1000", "--seed", "1", "-o", "clip.mp4")
    script = [sys.executable, "-c", "from phonofilm.cli.start import main; main()", "generate", "a man speaks"]
    command = subprocess.Popen(
        [*script, "--model", str(CHECKPOINT), *clip, *TWO], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        assert command.stderr is not None
        told = list(itertools.takewhile(lambda line: "step 1/1000" not in line, command.stderr))
        assert command.poll() is None, told
        helpers = psutil.Process(command.pid).children()
        ranks = [rank for helper in helpers for rank in helper.children()]
        assert len(ranks) == 2
        ranks[1].kill()
        said = command.stderr.read()
        assert command.wait() == 1
    finally:
        command.kill()
    assert re.search(r"rank \d was ended by signal 9 \(SIGKILL\)", said)
    assert list(tmp_path.iterdir()) == []
    assert not any(rank.is_running() for rank in ranks)


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
        ((*TWO, "--shard-weights", "--quantize", "int8"), "--quantize and --shard-weights do not work together"),
        ((*TWO, "--shard-weights", "--compile"), "--compile and --shard-weights do not work together"),
        ((*TWO, "--slots", "2"), "--slots would change nothing with --offload none"),
        ((*TWO, "--offload-to-disk", "layers"), "a folder to offload to was given, but offload is none"),
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
