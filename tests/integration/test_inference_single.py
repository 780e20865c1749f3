"""MOVA's own command: the same clip as `phonofilm generate`, and each of its flags does what it says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tests.conftest import GOLDENS, writable_copy
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, made, same

from phonofilm import read_clip
from phonofilm.media import read_metadata

SCRIPT = Path(__file__).parents[2] / "scripts" / "inference_single.py"
USUAL = {
    "--ckpt_path": str(CHECKPOINT),
    "--prompt": TINY[0],
    "--ref_path": str(IMAGE),
    "--height": "32",
    "--width": "32",
    "--num_frames": "5",
    "--num_inference_steps": "2",
    "--seed": "1",
    "--output_path": "out.mp4",
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inference_single", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def flags(**changed: str) -> list[str]:
    """The usual command line with some flags changed; an empty value is a switch."""
    told = USUAL | {f"--{name}": value for name, value in changed.items()}
    return [part for pair in told.items() for part in pair if part]


def run(script: ModuleType, **changed: str) -> Path:
    assert script.main(flags(**changed)) == 0
    return Path(changed.get("output_path", USUAL["--output_path"]))


@pytest.fixture(scope="module")
def usual(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(script, output_path=str(tmp_path_factory.mktemp("usual") / "deep" / "out.mp4"))


def test_it_makes_the_clip_that_phonofilm_generate_makes(usual: Path) -> None:
    made(*TINY, "-i", IMAGE, "-o", "ours.mp4")
    assert same(usual, "ours.mp4")


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "rain"},
        {"negative_prompt": "noise"},
        {"ref_path": "other.png"},
        {"height": "48"},
        {"width": "48"},
        {"num_frames": "9"},
        {"fps": "30"},
        {"seed": "2"},
        {"num_inference_steps": "3"},
        {"cfg_scale": "2"},
        {"sigma_shift": "2"},
        {"ckpt_path": str(GOLDENS / "variant" / "checkpoint")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_flag_changes_the_clip(changed: dict[str, str], script: ModuleType, usual: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save("other.png")
    before, after = read_clip(usual), read_clip(run(script, **changed))
    assert before.frame_rate != after.frame_rate or not np.array_equal(before.frames, after.frames)


def test_without_the_flag_the_shift_is_the_checkpoints(script: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    writable_copy(CHECKPOINT, folder)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"shift": 3.0}))
    without = run(script, ckpt_path=str(folder), output_path="without.mp4")
    assert same(without, run(script, ckpt_path=str(folder), sigma_shift="3", output_path="three.mp4"))
    assert not same(without, run(script, ckpt_path=str(folder), sigma_shift="5", output_path="five.mp4"))


def test_the_shift_is_that_of_both_schedules(script: ModuleType) -> None:
    told = read_metadata(run(script, sigma_shift="2"))
    assert (told["video_shift"], told["audio_shift"]) == (2.0, 2.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"offload": "none"},
        {"offload": "cpu"},
        {"offload": "group"},
        {"remove_video_dit": ""},
        {"attn_type": "torch"},
        {"cp_size": "1"},
    ],
    ids=str,
)
def test_where_weights_wait_changes_no_clip(changed: dict[str, str], script: ModuleType, usual: Path) -> None:
    assert same(run(script, **changed), usual)


def test_layers_can_wait_on_disk_and_leave_nothing_there(
    script: ModuleType, usual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Weights that were put away are overwritten: whatever is not fetched back before its use shows as another clip.
    one, other = read_clip(run(script, offload="group", offload_to_disk_path="layers")), read_clip(usual)
    assert np.abs(one.frames.astype(int) - other.frames.astype(int)).max() <= 1
    assert one.audio is not None
    assert other.audio is not None
    assert np.abs(one.audio - other.audio).max() < 1e-3
    assert list(Path("layers").iterdir()) == []


def test_offloading_without_a_gpu_says_that_there_is_nothing_to_do(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, offload="cpu")
    assert "the weights are in host memory already" in capsys.readouterr().err


def test_the_expert_that_is_done_is_given_back(script: ModuleType) -> None:
    from phonofilm.generation.checkpoint import open_checkpoint
    from phonofilm.generation.placement.hardware import HardwareOptions
    from phonofilm.generation.session import Session

    session = Session(open_checkpoint(str(CHECKPOINT)), HardwareOptions(device="cpu"))
    session.run(session.plan("a", size="32x32", num_frames=1, steps=2), remove_video_dit=True)
    assert session.pipeline.video_dit is None


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"cp_size": "0"}, "--gpus 0 is less than 1"),
        ({"cp_size": "2", "remove_video_dit": ""}, "--remove_video_dit is for one GPU"),
        ({"attn_type": "fa"}, "attention backend flash is not installed"),
        ({"attn_type": "flashinfer"}, "--attn_type flashinfer is not available here"),
        ({"offload_to_disk_path": "layers"}, "use offload group"),
        ({"ref_path": "none.png"}, "image: no file at none.png"),
        ({"ckpt_path": "./none"}, "'./none' is no"),
        ({"height": "33"}, "height 33 is not a multiple of 16; use 32"),
    ],
)
def test_what_cannot_be_done_is_refused(
    changed: dict[str, str], complaint: str, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(flags(**changed)) == 2
    assert complaint in capsys.readouterr().err


def test_more_gpus_than_torchrun_started_processes_are_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert script.main(flags(cp_size="4")) == 2
    assert "4 devices were asked for, and 2 ranks were started" in capsys.readouterr().err


def torchrun(processes: int, **changed: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    return subprocess.run([*launcher, str(SCRIPT), *flags(**changed)], capture_output=True, text=True)


def alike(a: Path | str, b: Path | str) -> bool:
    """Whether two clips look the same: rounding may turn a pixel by one of its 256 levels."""
    one, other = (read_clip(clip).frames.astype(int) for clip in (a, b))
    return one.shape == other.shape and int(np.abs(one - other).max()) <= 1


def test_it_runs_under_torchrun(usual: Path) -> None:
    done = torchrun(1)
    assert done.returncode == 0, done.stderr
    assert "Saved to out.mp4" in done.stdout
    assert same("out.mp4", usual)


@pytest.mark.slow
def test_several_processes_under_torchrun_make_the_same_clip(usual: Path) -> None:
    done = torchrun(2, cp_size="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Saved to out.mp4") == 1
    assert alike("out.mp4", usual)


@pytest.mark.slow
def test_without_torchrun_it_starts_its_processes_itself(usual: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), *flags(cp_size="2")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Saved to out.mp4" in done.stdout
    assert alike("out.mp4", usual)
