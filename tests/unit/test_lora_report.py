"""`phonofilm lora report`: each part alone moves what it can move, verdicts follow the figures, and the page is whole."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.lora_helpers import tiny_lora

from phonofilm import read_clip
from phonofilm.errors import InputError
from phonofilm.evaluation.lora_compare import Comparison, ComparisonRequest, agreement, compare, distance, parts_at_work
from phonofilm.evaluation.lora_page import lora_verdicts, write_page
from phonofilm.evaluation.lora_report import prompt_lines
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.media.clip import Clip
from phonofilm.pipeline.mova import MovaPipeline


@pytest.fixture(scope="module")
def pipe() -> MovaPipeline:
    return tiny_nano_pipeline(size=32, num_frames=5)


@pytest.fixture(scope="module")
def lora(pipe: MovaPipeline) -> LoraFile:
    return tiny_lora({name: getattr(pipe, name) for name in LORA_COMPONENTS}, alpha=0.5, targets=("q", "v"))


@pytest.fixture(scope="module")
def comparison(pipe: MovaPipeline, lora: LoraFile) -> Comparison:
    return compare(pipe, lora, ComparisonRequest(("a ball", "a lamp"), (3,), {"num_inference_steps": 1}))


def test_every_part_is_tried_alone_and_the_pipeline_is_left_as_it_was(
    pipe: MovaPipeline, comparison: Comparison
) -> None:
    names = [variant.name for variant in comparison.variants]
    assert names == ["without", "with", "video only", "audio only", "bridge only"]
    assert pipe.get_active_adapters() == []
    base = comparison.variant("without")
    assert [d.psnr for d in base.distances] == [math.inf, math.inf]
    assert base.mel == 0
    assert [clip.metadata["prompt"] for clip in base.clips] == ["a ball", "a lamp"]
    audio = comparison.variant("audio only")
    assert audio.mel > 0
    assert comparison.variant("video only").psnr < math.inf


def test_a_lora_without_a_part_is_told_so(pipe: MovaPipeline, lora: LoraFile) -> None:
    sound = replace(lora, adapters={"audio_dit": lora.adapters["audio_dit"]})
    comparison = compare(pipe, sound, ComparisonRequest(("a ball",), (0,), {"num_inference_steps": 1}))
    assert [variant.name for variant in comparison.variants] == ["without", "with"]
    assert "video: nothing learned, the LoRA has no trained adapters for it" in lora_verdicts(comparison)
    assert parts_at_work(lora, {"audio": 0.0, "a2v": 0.0}) == ("video", "bridge")
    with pytest.raises(InputError, match="changes nothing"):
        compare(pipe, lora, ComparisonRequest(("a ball",)), 0.0)
    with pytest.raises(InputError, match="at least one prompt"):
        compare(pipe, lora, ComparisonRequest(()))


def test_the_page_has_verdicts_pictures_clips_and_json(comparison: Comparison, tmp_path: Path) -> None:
    page = write_page(comparison, tmp_path / "out", "What x changes", {"LoRA": "x.safetensors"})
    text = page.read_text()
    for line in lora_verdicts(comparison):
        assert line in text
    files = re.findall(r"\]\(([^)]+)\)", text)
    assert len(files) == 2 * (1 + 5)
    for file in files:
        assert (page.parent / file).stat().st_size > 0
    assert read_clip(page.parent / "clip-1-audio-only.mp4").num_frames == 5
    with Image.open(page.parent / "clip-0.png") as picture:
        assert np.asarray(picture).std() > 5
    told = json.loads((page.parent / "report.json").read_text())
    assert told["variants"][0]["psnr_db"] is None
    assert told["variants"][1]["log_mel_db"] == comparison.variant("with").mel
    assert told["verdicts"] == lora_verdicts(comparison)


def test_distances_are_zero_for_the_same_clip_and_grow_with_the_change() -> None:
    clip = flash(0.5, 0.5)
    brighter = replace(clip, frames=np.minimum(clip.frames.astype(int) + 10, 255).astype(np.uint8))
    assert (distance(clip, clip).psnr, distance(clip, clip).mel) == (math.inf, 0.0)
    assert distance(clip, brighter).psnr == pytest.approx(20 * math.log10(255 / 10), abs=0.5)
    assert distance(clip, replace(clip, audio=clip.audio * 0.5)).mel == pytest.approx(
        6.02, abs=1.0
    )  # what falls below the floor counts less
    silent = replace(clip, audio=clip.audio * 0)
    assert distance(silent, clip).mel > 10
    with pytest.raises(InputError, match="cannot be compared"):
        distance(clip, replace(clip, frames=clip.frames[:3]))


def test_sync_is_found_in_picture_and_sound_alone() -> None:
    together, apart = agreement([flash(0.5, 0.5)]), agreement([flash(0.5, 0.7)])
    assert (together.events, together.within) == (1, 1.0)
    assert apart.within == 0.0
    assert apart.offset_ms == pytest.approx(200, abs=25)


def flash(seen: float, heard: float) -> Clip:
    """A second in which a flash is seen and a tone heard."""
    frames = np.full((24, 32, 32, 3), 40, np.uint8)
    frames[round(seen * 24) : round(seen * 24) + 3] = 220
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 440 * time) * np.exp(-8 * np.maximum(time - heard, 0)) * (time >= heard)
    return Clip(frames, Fraction(24), 0.5 * tone[None].astype(np.float32), 16000)


def test_prompts_are_given_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("one\n\ntwo\n")
    assert prompt_lines(str(file)) == ["one", "two"]
    assert prompt_lines("a ball") == ["a ball"]
    for text in (" ", str(tmp_path / "none.txt")):
        with pytest.raises(InputError):
            prompt_lines(text)
