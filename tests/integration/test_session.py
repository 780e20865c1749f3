"""The door from Python: a session makes the command's clips, tells its progress, stops when it is asked to."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.integration.cli import CHECKPOINT, generate
from tests.unit.lora_helpers import tiny_components, tiny_lora

from phonofilm import Clip, Session, load, read_clip, save_clip
from phonofilm.errors import InputError, MediaError
from phonofilm.generation.report import Cancelled, Event, Loading, SamplingStarted, StageStarted, StepDone
from phonofilm.lora.writing import save_lora
from phonofilm.media import read_metadata

SMALL: dict[str, Any] = {"size": "48x32", "num_frames": 9, "steps": 2, "seed": 5}
WORDS = ("--size", "48x32", "--num-frames", "9", "--steps", "2", "--seed", "5", "--device", "cpu")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with load(CHECKPOINT, device="cpu") as session:
        yield session


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save("first.png")


def test_a_session_makes_the_commands_clip_and_says_how(session: Session) -> None:
    done = generate("a man speaks", "--model", CHECKPOINT, *WORDS, "--image", "first.png", "-o", "command.mp4")
    assert done.exit_code == 0, done.output
    clip = session.generate("a man speaks", image="first.png", **SMALL)
    save_clip(clip, "session.mp4")
    assert Path("session.mp4").read_bytes() == Path("command.mp4").read_bytes()
    assert clip.metadata == read_metadata(Path("command.mp4"))


def test_a_clip_is_repeated_and_changed(session: Session) -> None:
    made = session.generate("a man", image="first.png", **SMALL)
    save_clip(made, "made.mp4")
    again = session.generate(like="made.mp4")
    assert np.array_equal(again.frames, made.frames)
    assert again.metadata == made.metadata
    assert session.plan(like="made.mp4", seed=6).settings() == session.plan(like="made.mp4").settings()
    assert session.plan(like="made.mp4", steps=1).settings()["steps"] == 1


def test_a_clip_in_memory_is_repeated(session: Session) -> None:
    made = session.generate("a man", image="first.png", **SMALL)
    assert np.array_equal(session.generate(like=made).frames, made.frames)
    with pytest.raises(InputError, match="an object in memory as image"):
        session.plan(like=session.generate("a man", image=Image.open("first.png"), **SMALL))
    with pytest.raises(MediaError, match="the clip carries no settings"):
        session.plan(like=replace(made, metadata={}))


def test_numbers_and_paths_may_be_numpys_and_pathlibs(session: Session) -> None:
    save_lora(tiny_lora(tiny_components(), alpha=0.4), Path("voice.safetensors"))
    numbers = SMALL | {"seed": np.int64(5), "steps": np.int32(2), "guidance_scale": np.float32(2)}
    plan = session.plan("a man", loras=Path("voice.safetensors"), modality_scale=np.array([2.0, 1.0]), **numbers)
    same = session.plan("a man", loras=["voice.safetensors"], modality_scale="2,1", **SMALL | {"guidance_scale": 2})
    assert str(plan) == str(same)
    with load(CHECKPOINT, device=torch.device("cpu"), dtype=torch.float32, loras=Path("voice.safetensors")) as other:
        assert str(other.plan("a man", **SMALL)) == str(session.plan("a man", loras="voice.safetensors", **SMALL))


def test_objects_stand_for_files_and_leave_their_hash(session: Session) -> None:
    picture = Image.open("first.png").convert("RGB")
    from_file = session.generate("a man", image=Path("first.png"), **SMALL)
    for given in (picture, np.asarray(picture), torch.from_numpy(np.array(picture)).permute(2, 0, 1)):
        clip = session.generate("a man", image=given, **SMALL)
        assert np.array_equal(clip.frames, from_file.frames)
        (recorded,) = clip.metadata["inputs"]
        assert (recorded["option"], recorded["path"]) == ("image", None)


def test_a_clip_in_memory_gets_its_sound(session: Session) -> None:
    silent = Clip(np.zeros((9, 32, 48, 3), np.uint8), session.checkpoint.geometry.frame_rate)
    sounding = session.generate("a man", video=silent, steps=1, seed=1)
    assert np.array_equal(sounding.frames, silent.frames)
    assert sounding.audio is not None
    save_clip(sounding, "sounding.mp4")
    again = generate("--like", "sounding.mp4", "--model", CHECKPOINT, "-o", "again.mp4")
    assert again.exit_code != 0
    assert "was made with an object in memory as video; give it as --video" in again.stderr


def test_progress_is_events_from_loading_to_decoding() -> None:
    events: list[Event] = []
    with load(CHECKPOINT, device="cpu") as session:
        session.generate("a man", on_progress=events.append, **SMALL)
    kinds = [type(event) for event in events]
    assert kinds.index(Loading) < kinds.index(SamplingStarted) < kinds.index(StepDone) < kinds.index(StageStarted)
    assert [event.done for event in events if isinstance(event, StepDone)] == [1, 2]
    assert {event.expert for event in events if isinstance(event, StepDone)} == {"high", "low"}


def test_a_listener_stops_the_run_within_a_step(session: Session) -> None:
    seen: list[Event] = []

    def stop(event: Event) -> bool:
        seen.append(event)
        return not isinstance(event, StepDone)

    with pytest.raises(Cancelled):
        session.generate("a man", on_progress=stop, **SMALL | {"steps": 20})
    assert sum(isinstance(event, StepDone) for event in seen) == 1

    def fail(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.generate("a man", on_progress=fail, **SMALL | {"steps": 20})
    assert session.generate("a man", **SMALL).num_frames == 9  # and the session goes on


def test_loras_change_from_clip_to_clip(session: Session) -> None:
    save_lora(tiny_lora(tiny_components(), alpha=0.4), Path("voice.safetensors"))
    plain = session.generate("a man", **SMALL)
    with_lora = session.generate("a man", loras=["voice.safetensors:2"], **SMALL)
    assert not np.array_equal(with_lora.frames, plain.frames)
    assert with_lora.metadata["loras"][0]["path"] == "voice.safetensors"
    assert np.array_equal(session.generate("a man", **SMALL).frames, plain.frames)


def test_threads_with_different_loras_each_get_their_own_clip(session: Session) -> None:
    save_lora(tiny_lora(tiny_components(), alpha=0.4), Path("voice.safetensors"))
    choices: list[list[str]] = [[], ["voice.safetensors:2"], ["voice.safetensors:-2"]]

    def frames(loras: list[str]) -> Any:
        return session.generate("a man", loras=loras, **SMALL).frames

    alone = [frames(loras) for loras in choices]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(frames, choices))
    assert all(map(np.array_equal, together, alone))


def test_a_copy_of_a_session_reads_the_weights_itself(session: Session) -> None:
    made = session.generate("a man", **SMALL)
    copy = pickle.loads(pickle.dumps(session))
    assert session.is_loaded
    assert not copy.is_loaded
    assert np.array_equal(copy.generate("a man", **SMALL).frames, made.frames)


def test_streaming_makes_the_same_clip(session: Session) -> None:
    plain = session.generate("a man", **SMALL)
    with load(CHECKPOINT, device="cpu", offload="layer", vram_limit="8GB") as streamed:
        clip = streamed.generate("a man", **SMALL)
    assert np.array_equal(clip.frames, plain.frames)
    assert clip.metadata["offload"] == "layer"


def test_a_plan_reads_as_a_line_and_loads_nothing() -> None:
    session = load(CHECKPOINT, device="cpu")
    line = str(session.plan("a man", **SMALL))
    assert "48x32 · 9 frames" in line
    assert line.endswith("seed 5 · weights 3.7 MB")
    assert session._model is None


def test_threads_are_as_before_after_a_clip(session: Session) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        session.generate("a man", **SMALL)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"gpus": 99}, "99 devices were asked for, and PyTorch sees"),
        ({"gpus": 2, "device": "cuda:0"}, "device cuda:0 is one device, and 2 ranks need one each"),
        ({"vram_limit": "much"}, "vram_limit 'much' is no amount of memory"),
        ({"device": "quantum"}, "device 'quantum' is unknown"),
        ({"offload": "moon"}, "offload 'moon' is unknown"),
        ({"gpus": "2"}, "gpus is '2', a str; expected a whole number"),
        ({"slots": 2.5}, r"slots is 2\.5, a float; expected a whole number"),
        ({"compile": "no"}, "compile is 'no', a str; expected True or False"),
        ({"vram_limit": 8e9}, r'vram_limit is 8000000000\.0, a float; expected an amount such as "12GB"'),
        ({"loras": [3]}, r'loras holds 3; expected files, such as "voice\.safetensors:0\.8"'),
    ],
)
def test_hardware_that_cannot_be_is_refused_in_pythons_words(words: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load(CHECKPOINT, **words)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"steps": "5"}, "steps is '5'; expected a whole number"),
        ({"image": 3}, "image is a int; expected a path"),
        ({"image": "none.png"}, "no file at none.png"),
        ({"retake": (0, 1)}, "retake was given without video"),
        ({"size": (48, 32)}, r"size is \[48, 32\]; expected text such as 640x352"),
        ({"retake": 0.2, "video": "x.mp4"}, r"retake is 0\.2; expected text such as 1\.5:2\.5"),
        ({"loras": 3}, r"loras holds 3; expected files"),
        ({"loras": "none.safetensors"}, r"there is no LoRA at none\.safetensors"),
        ({"keyframes": [(0.1, "first.png")]}, r"keyframes is a list; expected pictures by their seconds"),
        ({"keyframes": {"early": "first.png"}}, r"keyframes has the times \['early'\]; expected seconds"),
        ({"like": 3}, "like is a int; expected a Clip, or the path of a file"),
        ({"audio": np.zeros(8, np.float32)}, r"audio is a ndarray; expected a path, a Clip, or a pair"),
    ],
)
def test_a_clip_that_cannot_be_is_refused(session: Session, words: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        session.generate(**({"prompt": "a man"} | words))


@pytest.mark.parametrize("words", [{}, {"offload": "layer", "vram_limit": "8GB"}], ids=str)
def test_no_slot_is_not_the_usual_number_of_slots(words: dict[str, Any]) -> None:
    with (
        load(CHECKPOINT, device="cpu", slots=0, **words) as session,
        pytest.raises(InputError, match="0 slots cannot hold"),
    ):
        session.generate("a man", **SMALL)


def test_save_clip_takes_what_the_pipeline_returns(session: Session) -> None:
    out = session.pipeline("a man", height=32, width=48, num_frames=5, num_inference_steps=1)
    assert read_clip(save_clip(out, "out.mp4")).num_frames == 5
    two = session.pipeline("a man", height=32, width=48, num_frames=1, num_inference_steps=1, num_videos_per_prompt=2)
    with pytest.raises(InputError, match="2 clips were given"):
        save_clip(two, "two.mp4")
    with pytest.raises(InputError, match="clip is a ndarray"):
        save_clip(np.zeros(3), "none.mp4")  # type: ignore[arg-type]


def test_in_a_notebook_a_clip_plays_and_a_pipeline_is_short(session: Session) -> None:
    clip = session.generate("a <b>man</b>", **SMALL)
    shown = clip._repr_html_()
    assert "data:video/mp4;base64," in shown
    assert "<svg" in shown
    assert "a &lt;b&gt;man" in shown
    assert repr(session.pipeline) == "MovaPipeline(two experts, 0.0037 GB, float32 on cpu)"
    assert repr(session) == f"Session({CHECKPOINT}, cpu, weights loaded)"
    assert len(repr(clip)) < 120
    assert len(repr(session.plan("a man", **SMALL))) < 600
    out = session.pipeline("a man", height=32, width=48, num_frames=5, num_inference_steps=1)
    assert "data:video/mp4;base64," in (out._repr_html_() or "")
    assert repr(out) == "MovaPipelineOutput(1 clip as list, 24 fps, sound at 48000 Hz)"
