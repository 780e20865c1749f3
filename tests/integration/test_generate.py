"""`phonofilm generate` end to end on the golden checkpoint: what each option changes, and clips that must be equal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tests.conftest import writable_copy
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, generate, made, same

from phonofilm import MovaPipeline, read_clip
from phonofilm.cli.start import run
from phonofilm.media import movie, read_metadata


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished clip of 9 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    made(*TINY, "--num-frames", "9", "-o", path)
    return path


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return latents(tmp_path_factory.mktemp("usual"), ())


def latents(folder: Path, options: tuple[str | Path, ...]) -> dict[str, Any]:
    """What the model makes with the options added: both tracks' latents, and the settings in the file."""
    path = folder / "l.safetensors"
    made(*TINY, "-i", IMAGE, "-o", path, *options, "--overwrite")
    with safe_open(path, framework="pt") as file:
        return {**load_file(path), "settings": json.loads(file.metadata()["phonofilm"])}


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        (("--image-fit", "letterbox", "-i", "tall.png"), {"image_fit": "letterbox"}),
        (("-i", "tall.png"), {"image_fit": "crop"}),
        (("--last-image", "tall.png"), {}),
        (("--size", "48x32"), {"size": "48x32"}),
        (("--num-frames", "9"), {"num_frames": 9}),
        (("--fps", "30"), {"fps": "30"}),
        (("--steps", "3"), {"steps": 3}),
        (("--guidance-scale", "3"), {"guidance_scale": 3.0, "audio_guidance_scale": 3.0}),
        (("--audio-guidance-scale", "3"), {"guidance_scale": 5.0, "audio_guidance_scale": 3.0}),
        (("--modality-scale", "2"), {"modality_scale": "2.0"}),
        (("--modality-scale", "3.5,1"), {"modality_scale": "3.5,1.0"}),
        (("--negative-prompt", "noise"), {"negative_prompt": "noise"}),
        (("--video-shift", "2"), {"video_shift": 2.0}),
        (("--audio-shift", "2"), {"audio_shift": 2.0}),
        (("--boundary-ratio", "0.5"), {"boundary_ratio": 0.5}),
        (("--seed", "2"), {"seed": 2}),
        (("--dtype", "bfloat16"), {"dtype": "bfloat16"}),
        (("--dtype", "float16"), {"dtype": "float16"}),
        (("--attn-backend", "native_math"), {"attention": "_native_math"}),
    ],
)
def test_each_option_changes_what_is_made(
    options: tuple[str, ...], setting: dict[str, Any], usual: dict[str, Any], tmp_path: Path
) -> None:
    Image.fromarray(np.tile(np.linspace(0, 255, 90, dtype=np.uint8)[:, None, None], (1, 40, 3))).save("tall.png")
    changed = latents(tmp_path, options)
    assert changed["settings"].items() >= setting.items()
    tracks = [(changed[name], usual[name]) for name in ("video_latents", "audio_latents")]
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in tracks)


def test_audio_guidance_alone_leaves_the_first_steps_picture_alone(tmp_path: Path) -> None:
    one_step = ("--steps", "1")
    plain, changed = latents(tmp_path, one_step), latents(tmp_path, (*one_step, "--audio-guidance-scale", "2"))
    assert torch.equal(plain["video_latents"], changed["video_latents"])
    assert not torch.equal(plain["audio_latents"], changed["audio_latents"])


def test_without_an_image_the_clip_is_made_from_text_alone() -> None:
    done = generate(*TINY, "-o", "text.mp4")
    assert "text only (no first frame)" in done.stderr
    made(*TINY, "-o", "image.mp4", "-i", IMAGE)
    assert not same(Path("text.mp4"), Path("image.mp4"))


def test_the_command_makes_what_the_python_call_makes() -> None:
    (path,) = made(*TINY, "-i", IMAGE, "-o", "frames", "--output-type", "frames")
    pipe = MovaPipeline.from_pretrained(CHECKPOINT, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(
        "a man speaks",
        image=IMAGE,
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(1),
    )
    (expected,), found = out.clips(), read_clip(path)
    assert np.array_equal(found.frames, expected.frames)
    assert expected.audio is not None
    assert found.audio is not None
    assert np.array_equal(found.audio, expected.audio)


def test_two_clips_are_two_runs_with_the_seeds_that_follow_each_other() -> None:
    made(*TINY, "-o", "both.mp4", "--num-clips", "2")
    made(*TINY, "-o", "first.mp4")
    made(*TINY, "-o", "second.mp4", "--seed", "2")
    assert same(Path("both-0.mp4"), Path("first.mp4"))
    assert same(Path("both-1.mp4"), Path("second.mp4"))
    assert not same(Path("both-0.mp4"), Path("both-1.mp4"))


def test_without_a_seed_one_is_drawn_printed_and_kept() -> None:
    done = generate("a man", "--size", "32x32", "--num-frames", "1", "--steps", "1", "-o", "a.mp4")
    seed = read_metadata("a.mp4")["seed"]
    assert f"· seed {seed} ·" in done.stderr


def test_offloading_changes_nothing_but_where_weights_wait(clip: Path) -> None:
    made(*TINY, "--num-frames", "9", "-o", "cpu.mp4", "--offload", "cpu")
    made(*TINY, "--num-frames", "9", "-o", "group.mp4", "--offload", "group")
    assert same(Path("cpu.mp4"), clip)
    assert same(Path("group.mp4"), clip)
    assert read_metadata("group.mp4")["offload"] == "group"


@pytest.mark.parametrize(
    ("name", "kind", "frames"), [("a.mp4", None, 5), ("a", "webm", 5), ("a.gif", None, 5), ("folder", None, 5)]
)
def test_the_name_or_the_type_decides_the_container(name: str, kind: str | None, frames: int) -> None:
    (path,) = made(*TINY, "-o", name, *(["--output-type", kind] if kind else []))
    found = read_clip(path)
    assert found.num_frames == frames
    assert (found.audio is None) == (path.suffix == ".gif")
    assert read_metadata(path)["seed"] == 1


def test_a_contact_sheet_is_written_on_request() -> None:
    made(*TINY, "-o", "a.mp4", "--contact-sheet", "sheet.png")
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 5 * 32


def test_nothing_is_replaced_unless_allowed(clip: Path) -> None:
    shutil.copy(clip, "a.mp4")
    done = generate(*TINY, "-o", "a.mp4")
    assert (done.exit_code, "exists already" in done.stderr) == (2, True)
    assert same(Path("a.mp4"), clip)
    made(*TINY, "-o", "a.mp4", "--overwrite", "--seed", "5")
    assert not same(Path("a.mp4"), clip)


def test_everything_cheap_is_checked_before_weights_are_read() -> None:
    for wrong in (
        ("--num-frames", "6"),
        ("--size", "33x32"),
        ("-o", "/proc/a.mp4"),
        ("-i", "none.png"),
        ("--device", "cuda:77"),
    ):
        done = generate(*TINY, *wrong)
        assert done.exit_code == 2
        assert "loaded" not in done.stderr
    assert list(Path().iterdir()) == []


def streams(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(next(s for s in container.streams if s.type == kind))]


def test_a_given_picture_gets_sound_and_is_kept_bit_by_bit(clip: Path) -> None:
    made("a bell", "--video", clip, "--steps", "2", "--seed", "4", "-o", "sound.mp4")
    assert streams(Path("sound.mp4"), "video") == streams(clip, "video")
    assert streams(Path("sound.mp4"), "audio") != streams(clip, "audio")


def test_a_given_sound_gets_a_picture_and_is_kept_bit_by_bit(clip: Path) -> None:
    made("a bell", "--audio", clip, "--size", "32x32", "--steps", "2", "--seed", "4", "-o", "picture.mp4")
    assert streams(Path("picture.mp4"), "audio") == streams(clip, "audio")
    assert streams(Path("picture.mp4"), "video") != streams(clip, "video")


def test_a_clip_is_continued_from_its_last_frames(clip: Path) -> None:
    longer = ("a bell", "--continue-from", clip, "--num-frames", "9", "--steps", "2", "--seed", "4")
    made(*longer, "--overlap-frames", "5", "-o", "a")
    made(*longer, "--overlap-frames", "1", "-o", "b")
    before, after = read_clip(clip), read_clip("a")
    assert after.num_frames == 9 + 9 - 5
    assert read_clip("b").num_frames == 9 + 9 - 1
    assert np.array_equal(after.frames[:5], before.frames[:5])


@pytest.mark.parametrize(("tracks", "kept"), [("audio", "video"), ("video", "audio")])
def test_a_retake_of_one_track_keeps_the_other_bit_by_bit(tracks: str, kept: str, clip: Path) -> None:
    retake = ("a bell", "--video", clip, "--retake", "0.1:0.3", "--steps", "2", "--seed", "4")
    done = generate(*retake, "--retake-tracks", tracks, "-o", "a.mp4")
    assert f"{'sound' if tracks == 'audio' else 'picture'} anew from 0.1 to 0.3 s" in done.stderr
    assert streams(Path("a.mp4"), kept) == streams(clip, kept)
    assert streams(Path("a.mp4"), tracks) != streams(clip, tracks)


def test_a_clip_is_repeated_from_what_its_file_says() -> None:
    shutil.copy(IMAGE, "first.png")
    made(*TINY, "-i", "first.png", "-o", "a.mp4", "--modality-scale", "2,1", "--fps", "23.976", "--video-shift", "3")
    made("--like", "a.mp4", "-o", "b.mp4")
    assert same(Path("a.mp4"), Path("b.mp4"))
    made("--like", "a.mp4", "-o", "c.mp4", "--seed", "9")
    assert not same(Path("a.mp4"), Path("c.mp4"))
    assert {**read_metadata("c.mp4"), "seed": 1} == read_metadata("a.mp4")


def test_a_clip_is_repeated_by_its_own_checkpoint_or_not_at_all() -> None:
    writable_copy(CHECKPOINT, "model")
    made(*TINY, "-m", "model", "-o", "a.mp4", model=False)
    made("--like", "a.mp4", "-o", "b.mp4", model=False)
    assert same(Path("a.mp4"), Path("b.mp4"))
    weights = Path("model/audio_dit/diffusion_pytorch_model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-200:] = bytes(200)
    weights.write_bytes(content)
    other = generate("--like", "a.mp4", "-o", "c.mp4", model=False)
    assert (other.exit_code, "was made with another checkpoint" in other.stderr) == (1, True)
    made("--like", "a.mp4", "-o", "c.mp4", "-m", "model", model=False)
    shutil.rmtree("model")
    gone = generate("--like", "a.mp4", "-o", "d.mp4", model=False)
    assert (gone.exit_code, "the local checkpoint model/; give it as --model" in gone.stderr) == (2, True)


def test_the_pictures_a_clip_was_made_with_must_be_the_same() -> None:
    Path("in").mkdir()
    shutil.copy(IMAGE, "in/first.png")
    made(*TINY, "-i", "in/first.png", "-o", "a.mp4")
    shutil.move("in/first.png", "first.png")  # beside the clip it is found
    made("--like", "a.mp4", "-o", "b.mp4")
    assert same(Path("a.mp4"), Path("b.mp4"))
    Image.new("RGB", (32, 32)).save("first.png")
    changed = generate("--like", "a.mp4", "-o", "c.mp4")
    assert (changed.exit_code, "its content has changed" in changed.stderr) == (2, True)
    Path("first.png").rename("other.png")
    gone = generate("--like", "a.mp4", "-o", "c.mp4")
    assert (gone.exit_code, "made with in/first.png, which is not here" in gone.stderr) == (2, True)
    other = generate("--like", "a.mp4", "-o", "c.mp4", "-i", "other.png")
    assert (other.exit_code, "the clip will differ" in other.stderr) == (0, True)
    assert not same(Path("a.mp4"), Path("c.mp4"))


def test_a_file_of_another_program_cannot_be_repeated(clip: Path) -> None:
    with av.open(str(clip)) as source, av.open("plain.mp4", "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    done = generate("--like", "plain.mp4", "-o", "a.mp4")
    assert (done.exit_code, "carries no settings" in done.stderr) == (1, True)


INTERRUPTED = f"""
import signal, sys
import torch
from phonofilm.cli.start import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
torch.set_num_threads(1)
sys.argv = ["phonofilm", "generate", "a", "-m", {str(CHECKPOINT)!r}, "--steps", "1000", "--size", "64x64", "-o", "a.mp4"]
main()
"""


def test_interrupting_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("step 1/"):
                break
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
    assert run.returncode == 130
    assert rest.splitlines()[-1] == "interrupted"
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_ending_a_run_in_the_middle_of_writing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode_time, seen = movie._decode_time, []

    def end_at_the_fifth_packet(packet: Any) -> Any:
        seen.append(packet)
        if len(seen) == 5:
            assert list(tmp_path.glob(".phonofilm-*"))
            os.kill(os.getpid(), signal.SIGTERM)
        return decode_time(packet)

    monkeypatch.setattr(movie, "_decode_time", end_at_the_fifth_packet)
    command = ["generate", *TINY, "-m", str(CHECKPOINT), "--size", "64x64", "--num-frames", "17", "-o", "a.webm"]
    monkeypatch.setattr(sys, "argv", ["phonofilm", *command])
    usual = signal.getsignal(signal.SIGTERM)
    try:
        code = run()
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert (code, capsys.readouterr().err.splitlines()[-1]) == (130, "interrupted")
    assert list(tmp_path.iterdir()) == []
