"""`phonofilm generate --lora`: what it changes, what the clip says of it, repeating it, and errors before weights are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.integration.cli import CHECKPOINT, TINY, generate, made, same
from tests.unit.lora_helpers import tiny_components, tiny_lora

from phonofilm.files import file_hash
from phonofilm.lora.exporting import export_comfyui, export_peft
from phonofilm.lora.writing import save_lora
from phonofilm.media import read_metadata


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_lora(tiny_lora(tiny_components(), alpha=0.4), tmp_path / "loras" / "voice.safetensors")
    return Path("loras/voice.safetensors")


def latents(name: str, *options: str) -> dict[str, Any]:
    path = Path(f"{name}.safetensors")
    made(*TINY, "-o", path, *options)
    return load_file(path)


def test_strengths_decide_what_changes_and_the_clip_says_so(file: Path) -> None:
    made(*TINY, "-o", "plain.mp4")
    made(*TINY, "-o", "zero.mp4", "--lora", f"{file}:0")
    made(*TINY, "-o", "full.mp4", "--lora", str(file))
    done = generate(*TINY, "-o", "part.mp4", "--lora", f"{file}:video=0,audio=0.5,bridge=0")
    assert "LoRA voice.safetensors (video=0.0,audio=0.5,bridge=0.0)" in done.stderr.replace("\n", " ")
    assert same("zero.mp4", "plain.mp4")
    assert not same("full.mp4", "plain.mp4")
    assert not same("part.mp4", "full.mp4")
    told = {"path": "loras/voice.safetensors", "sha256": file_hash(file), "strength": "video=0.0,audio=0.5,bridge=0.0"}
    assert read_metadata("part.mp4")["loras"] == [told]
    assert "loras" not in read_metadata("plain.mp4")


def test_like_repeats_a_clip_with_its_loras_and_checks_their_content(file: Path) -> None:
    made(*TINY, "-o", "a.mp4", "--lora", f"{file}:0.5")
    made("--like", "a.mp4", "-o", "b.mp4")
    assert same("a.mp4", "b.mp4")
    made(*TINY, "-o", "plain.mp4")
    made("--like", "a.mp4", "-o", "c.mp4", "--lora", "none")
    assert same("c.mp4", "plain.mp4")
    file.rename("voice.safetensors")  # beside the clip
    made("--like", "a.mp4", "-o", "d.mp4")
    assert same("a.mp4", "d.mp4")
    save_lora(tiny_lora(tiny_components(), seed=5), "voice.safetensors", overwrite=True)
    done = generate("--like", "a.mp4", "-o", "e.mp4")
    assert done.exit_code == 2
    assert "voice.safetensors is not the file a.mp4 was made with" in done.stderr
    Path("voice.safetensors").unlink()
    done = generate("--like", "a.mp4", "-o", "e.mp4")
    assert done.exit_code == 2
    assert "a.mp4 was made with loras/voice.safetensors, which is not here; give it with --lora" in done.stderr


def test_two_files_one_per_expert_and_a_folder_are_loras_too(file: Path) -> None:
    lora = tiny_lora(tiny_components(), alpha=0.4)
    made(*TINY, "-o", "one.mp4", "--lora", str(file))
    export_peft(lora, "peft")
    made(*TINY, "-o", "folder.mp4", "--lora", "peft")
    assert same("one.mp4", "folder.mp4")
    parts = export_comfyui(lora, "parts")
    for name in ("high_noise", "low_noise"):  # as others write them: without a word on what they are for
        save_file(load_file(parts / f"{name}.safetensors"), f"{name}.safetensors")
    wan = ("--lora", "high_noise.safetensors", "--lora", "low_noise.safetensors:expert=low")
    made(*TINY, "-o", "wan.mp4", *wan)
    made(*TINY, "-o", "video.mp4", "--lora", f"{file}:audio=0,bridge=0")
    assert same("wan.mp4", "video.mp4")
    made("--like", "wan.mp4", "-o", "again.mp4")
    assert same("wan.mp4", "again.mp4")


def test_what_is_wrong_is_said_before_weights_are_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("phonofilm.pipeline.mova.MovaPipeline.from_pretrained", load)
    save_file({**load_file(file), "video_dit.blocks.0.norm.diff": load_file(file).popitem()[1]}, "odd.safetensors")
    for option, code, message in (
        (("odd.safetensors",), 1, "1 of its names are no part of a LoRA"),
        (("none.safetensors",), 2, "there is no LoRA at none.safetensors"),
        ((f"{file}:sound=1",), 2, "strength is given for 'sound'"),
        ((f"{file}:loud",), 2, "'loud'"),
        ((str(file), f"{file}:0.5"), 2, "given twice"),
        ((str(file), "none"), 2, "takes all LoRAs away"),
    ):
        done = generate(*TINY, "-o", "x.mp4", *(word for one in option for word in ("--lora", one)))
        assert done.exit_code == code, done.output
        assert message in done.stderr
    other = CHECKPOINT.parents[1] / "variant" / "checkpoint"
    done = generate(*TINY, "-o", "x.mp4", "--lora", str(file), "--model", str(other))
    assert done.exit_code == 1
    assert not Path("x.mp4").exists()


def test_lines_of_a_file_choose_their_own_loras(file: Path) -> None:
    lines = [
        {"prompt": "a"},
        {"prompt": "a", "lora": "none"},
        {"prompt": "a", "lora": [f"{file}:0.2"]},
        {"prompt": "a"},
    ]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = (*TINY[1:], "--prompts", "p.jsonl", "-o", "clips", "--lora", str(file), "--seed", "1")
    first, none, weak, again = made(*options)
    made(*TINY[1:], "a", "-o", "plain.mp4")
    made(*TINY[1:], "a", "-o", "weak.mp4", "--lora", f"{file}:0.2")
    assert same(none, "plain.mp4")
    assert same(weak, "weak.mp4")
    assert same(first, again)
    assert not same(first, none)
    assert made(*options) == []
    Path("bad.jsonl").write_text('{"prompt": "a", "lora": 3}')
    done = generate("--prompts", "bad.jsonl", "-o", "clips")
    assert "lora is 3; expected text such as file.safetensors:0.8, or a list of such" in done.stderr


@pytest.mark.parametrize("offload", ["cpu", "group"])
def test_offloading_changes_nothing_of_a_lora(file: Path, offload: str) -> None:
    made(*TINY, "-o", "a.mp4", "--lora", str(file))
    made(*TINY, "-o", "b.mp4", "--lora", str(file), "--offload", offload)
    assert same("a.mp4", "b.mp4")
