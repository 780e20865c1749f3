"""Promise 2: what can be refused before the first step is refused before it; the output stage is rehearsed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import writable_copy
from tests.integration.cli import CHECKPOINT, IMAGE, TINY, generate, made
from tests.media_makers import flash_and_beep
from tests.promises import hostile_media as hostile

from phonofilm.generation import outputs, rehearsal
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.clip_maker import ClipMaker
from phonofilm.generation.options import ClipOptions
from phonofilm.media import Clip, read_clip, save_clip
from phonofilm.units import format_size


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str | Path, message: str) -> None:
    """Refused in one line with exit code 2 or 1, with no step made and nothing written."""
    before = sorted(path.name for path in Path().iterdir())
    done = generate(*arguments)
    errors = done.stderr.splitlines()
    assert done.exit_code in (1, 2), done.output
    assert message in errors[-1]
    assert errors[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "step 1/" not in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.mark.parametrize("sheet", ["a.mp4", "./a.mp4", "b.mp4", "b", "b.jpg"])
def test_a_contact_sheet_is_a_png_of_its_own(sheet: str) -> None:
    refused(*TINY, "-o", "a.mp4", "--contact-sheet", sheet, message="contact sheet")


def test_a_folder_of_other_files_is_not_replaced() -> None:
    Path("mine").mkdir()
    Path("mine/diary.txt").write_text("dear diary")
    refused(*TINY, "-o", "mine", "--overwrite", message="diary.txt")
    refused(*TINY, "-o", "mine", "--output-type", "frames", "--overwrite", message="diary.txt")


@pytest.mark.parametrize(
    "name",
    [
        "a\x1b]0;x\x07.mp4",
        "a\nb.mp4",
        "a\u202e.mp4",
        "a\tb/c.mp4",
        "a\udcff.mp4",
        "x" * 5000 + ".mp4",
        "x" * 250 + ".mp4",
        "\udce9/a.mp4",
    ],
)
def test_a_name_that_cannot_be_given(name: str) -> None:
    refused(*TINY, "-o", name, message="the name")


@pytest.mark.parametrize(
    "option", ["--image", "--last-image", "--video", "--audio", "--continue-from", "--like", "--lora"]
)
def test_inputs_that_are_no_files(option: str) -> None:
    hostile.fifo(Path("pipe"))
    arguments = ("a", "--size", "32x32", "-o", "a.mp4")
    for name in ("pipe", "/dev/zero", "not there", "x" * 5000):
        refused(*arguments, option, name, message=" at ")


@pytest.mark.parametrize("channels", [7, 8, 9, 32])
def test_a_sound_that_the_file_cannot_hold(channels: int) -> None:
    sound = hostile.wav(Path("a.wav"), np.full((channels, 9600), 0.1, np.float32))
    refused(*TINY, "--audio", sound, "-o", "a.mp4", message="channels")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sound_of_no_numbers(value: float) -> None:
    sound = hostile.wav(Path("a.wav"), np.full((1, 9600), value, np.float32))
    refused(*TINY, "--audio", sound, "-o", "a.mp4", message="not numbers")


def test_eight_channels_go_into_a_folder_of_frames() -> None:
    sound = hostile.wav(Path("a.wav"), np.full((8, 9600), 0.1, np.float32))
    made(*TINY, "--audio", sound, "-o", "frames")
    clip = read_clip("frames")
    assert clip.audio is not None
    assert len(clip.audio) == 8


@pytest.mark.parametrize("output", ["b.mp4", "b.webm", "b.gif", "b"])
def test_a_folder_of_frames_is_a_video_for_every_kind_of_output(output: str) -> None:
    clip = flash_and_beep(num_frames=9, at=(4,), side=32)
    save_clip(clip, "frames")
    made("a man speaks", "--steps", "1", "--video", "frames", "-o", output)
    if output != "b.gif":  # which stores frames that repeat as one
        assert np.abs(read_clip(output).frames.astype(int) - clip.frames).mean() < 8


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_of_variable_rate_is_written_or_refused_before_the_first_step(suffix: str) -> None:
    times = [i / 24 for i in (0, 1, 5, 6, 20, 21, 22, 50, 51)]
    clip = hostile.picture_at(Path("v.mkv"), times, side=32)
    done = generate("a man speaks", "--steps", "1", "--video", clip, "-o", f"a{suffix}")
    if done.exit_code:
        assert "not written" in done.stderr
        assert "step 1/" not in done.stderr
    else:
        assert read_clip(f"a{suffix}").num_frames == read_clip(clip).num_frames


def test_two_lines_do_not_write_one_file() -> None:
    lines = [{"prompt": "a", "output": "x.mp4"}, {"prompt": "b", "output": "./x.mp4"}, {"prompt": "c"}]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = generate("--prompts", "p.jsonl", "--size", "32x32", "--num-frames", "5", "--steps", "1", "--overwrite")
    assert done.exit_code == 1
    assert "is what p.jsonl line 1 writes as well" in done.stderr
    assert sorted(path.name for path in Path("p").iterdir()) == ["0003.mp4", "x.mp4"]


@pytest.mark.parametrize("outputs", [("f", "f/x.mp4"), ("f/x.mp4", "f"), ("f/g", "./f//g/h/x.webm")])
def test_no_line_writes_into_what_another_writes(outputs: tuple[str, str]) -> None:
    lines = [{"prompt": "a", "output": one} for one in outputs]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = generate("--prompts", "p.jsonl", "--size", "32x32", "--num-frames", "1", "--steps", "1")
    assert done.exit_code == 1
    assert "is what p.jsonl line 1 writes as well, or one lies in the other" in done.stderr
    assert f"wrote p/{outputs[0]}" in done.stderr


def test_a_batch_says_what_is_wrong_before_it_makes_anything() -> None:
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    lines = [
        {"prompt": "a"},
        {"prompt": "b", "contact_sheet": "sheet.jpg"},
        {"prompt": "c", "keyframe": "0=broken.png"},
        {"prompt": "d", "lora": "gone.safetensors"},
    ]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = generate("--prompts", "p.jsonl", "--size", "32x32", "--num-frames", "1", "--steps", "1")
    before, made_one, _ = done.stderr.partition("clip 1 of 1")
    assert (done.exit_code, made_one) == (1, "clip 1 of 1")
    assert [path.name for path in Path("p").iterdir()] == ["0001.mp4"]
    for number, fault in ((2, "should end in .png"), (3, "cannot be read as an image"), (4, "gone.safetensors")):
        assert any(f"line {number}" in line and fault in line for line in before.splitlines()), before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-i", "f/00000.png", "-o", "f", "--overwrite"), "which it is made from (image)"),
        (
            ("-i", "f/00000.png", "-o", "a.mp4", "--contact-sheet", "f/00000.png", "--overwrite"),
            "contact sheet would replace",
        ),
        (("--keyframe", "0=f/00000.png", "-o", "f", "--overwrite"), "which it is made from (keyframe)"),
        (("-o", "l.safetensors", "--lora", "l.safetensors:0.5", "--overwrite"), "which it is made from (lora)"),
        (("-o", "model/w.safetensors", "-m", "model", "--overwrite"), "the model's folder"),
        (("-o", "frames", "--contact-sheet", "frames/sheet.png"), "lie in its folder"),
        (("-o", "a.mp4/"), "leave out the slash"),
    ],
)
def test_nothing_that_is_read_is_replaced(arguments: tuple[str, ...], message: str) -> None:
    Path("f").mkdir()
    Path("model").mkdir()
    Path("l.safetensors").touch()
    shutil.copy(IMAGE, "f/00000.png")
    refused(*TINY, *arguments, message=message)
    assert Path("f/00000.png").read_bytes() == IMAGE.read_bytes()


def test_a_key_that_stands_twice_in_a_line_is_refused() -> None:
    Path("p.jsonl").write_text('{"prompt": "a", "seed": 1, "seed": 2}')
    refused("--prompts", "p.jsonl", message="it has the key 'seed' twice")


@pytest.mark.parametrize(
    ("retakes", "message"),
    [
        (("0:0.2", "0.1:0.3"), "0.1:0.3 begins before 0:0.2 has ended"),
        (("0.1:0.3", "0:0.2"), "0.1:0.3 begins before 0:0.2 has ended"),
        (("0.1:0.1001",), "is shorter than a frame"),
        (("0:0.1", "0.2:0.2001"), "is shorter than a frame"),
    ],
)
def test_retakes_that_make_something_twice_or_nothing(retakes: tuple[str, ...], message: str) -> None:
    save_clip(flash_and_beep(num_frames=9, at=(4,), side=32), "clip.mp4")
    given = [word for one in retakes for word in ("--retake", one)]
    refused("a", "--steps", "1", "--video", "clip.mp4", *given, "-o", "b.mp4", message=message)


def test_a_voice_of_a_sample_is_no_voice() -> None:
    sound = hostile.wav(Path("a.wav"), np.full((1, 1), 0.1, np.float32))
    refused(*TINY, "--voice", sound, "-o", "a.mp4", message="too short to be heard as a voice")


def test_parts_too_short_to_go_on_from_are_called_so() -> None:
    refused(
        "a", "--size", "32x32", "--seconds", "9", "--part-seconds", "1e-9", "-o", "a.mp4", message="part_seconds 1e-09"
    )


def test_odd_pictures_are_refused_by_their_size_alone() -> None:
    refused(*TINY, "-i", hostile.png_of_size(Path("a.png"), 13_000, 13_000), "-o", "a.mp4", message="megapixels")
    Image.new("RGB", (32, 32)).save("a.dds")
    refused(*TINY, "-i", "a.dds", "-o", "a.mp4", message="cannot be read as an image")


def test_a_model_of_a_million_layers_is_refused(tmp_path: Path) -> None:
    writable_copy(CHECKPOINT, "model")
    path = Path("model/video_dit/config.json")
    path.write_text(path.read_text().replace('"num_layers": 4', '"num_layers": 1000000'))
    done = generate(*TINY, "-i", IMAGE, "-m", "model", "-o", "a.mp4", model=False)
    assert done.exit_code == 1
    assert "num_layers is 1000000" in done.stderr.splitlines()[-1]


def test_a_folder_that_is_a_link_to_nowhere() -> None:
    Path("usb").symlink_to("not plugged in")
    for name in ("usb/a.mp4", "usb/films/a.mp4", "usb/frames"):
        refused(*TINY, "-o", name, message="usb is a link that leads nowhere")
        refused(*TINY, "-o", name, "--overwrite", message="usb is a link that leads nowhere")


def test_a_name_that_was_typed_wrong() -> None:
    refused(*TINY, "-o", "a.mp4.", message="a.mp4. is no name for a file")
    refused(*TINY, "--model", "", message="the model's name is empty")


def test_a_picture_beside_a_clip_that_keeps_its_own() -> None:
    save_clip(flash_and_beep(side=32), "given.mp4")
    for given in ("--continue-from", "--video"):
        refused("a", given, "given.mp4", "--image", IMAGE, "-o", "a.mp4", message="leave image out")
    refused("a", "--video", "given.mp4", "--last-image", IMAGE, "-o", "a.mp4", message="leave last_image out")


@pytest.mark.parametrize("dash", ["\u2013", "\u2014", " \u2013 "])
def test_times_of_a_prompt_with_a_long_dash(dash: str) -> None:
    refused(f"0{dash}2: A ball; 2{dash}4: A lamp", "-o", "a.mp4", message="looks like the times of a prompt")


@pytest.mark.parametrize(
    ("arguments", "least"),
    [
        (("-o", "frames"), 5 * 4096 + 10_000 * 4),
        (("-o", "a.safetensors"), 4 * 16 * 2 * 4 * 4),
        (("-n", "3", "-o", "frames"), 3 * (5 * 4096 + 10_000 * 4)),
    ],
)
def test_a_disk_that_clearly_has_too_little(
    arguments: tuple[str, ...], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte less than the least; a disk that is nearly full passes the first check, and used to fail after all steps."""
    monkeypatch.setattr(outputs, "LEAST_FREE", 1)
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=least - 1))
    refused(*TINY, *arguments, message=f"at least {format_size(least)} will be needed")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=least))
    assert generate(*TINY, *arguments).exit_code == 0


def test_a_disk_for_the_film_but_not_for_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    film = ("a", "--size", "64x64", "--steps", "1", "--seconds", "4", "--part-seconds", "2", "-o", "a.mp4")
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    refused(*film, message="(the parts of the film among it)")


def test_more_frames_than_memory_holds() -> None:
    refused("a", "--size", "8192x8192", "--num-frames", "99997", "--steps", "1", "-o", "a.mp4", message="of memory")


def test_a_long_sound_is_rehearsed_with_few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of speech was rehearsed with 86,400 frames, in silence, for minutes."""
    seen: list[Clip] = []
    monkeypatch.setattr(rehearsal, "save_clip", lambda clip, *_, **__: seen.append(clip))
    sound = hostile.wav(Path("a.wav"), np.full((1, 400 * 1000), 0.1, np.float32), rate=1000)
    plan = ClipMaker(open_checkpoint(str(CHECKPOINT))).plan_options(ClipOptions(prompt="a", size="32x32", audio=sound))
    rehearsal.rehearse_output(plan, outputs.Output(Path("a.mp4"), "mp4"))
    (clip,) = seen
    assert clip.num_frames <= 2 * rehearsal.ENOUGH_FRAMES
    assert abs(clip.seconds - 400) < 1
