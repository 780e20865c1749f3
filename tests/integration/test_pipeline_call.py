"""The pipeline's call on the tiny golden checkpoint: batches, seeds, callbacks, outputs, given tracks, bad input."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import load_golden, relative_error

from phonofilm import Clip, MovaPipeline
from phonofilm.errors import InputError
from phonofilm.pipeline.call_arguments import Defaults

SMALL: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": 2, "output_type": "pt"}
PROMPT = "a red ball bounces"


@pytest.fixture(scope="module")
def pipe() -> MovaPipeline:
    pipe = MovaPipeline.from_pretrained(load_golden("basic").checkpoint)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(seed: int = 0, height: int = 32, width: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def clip(frames: int = 9, rate: Fraction = Fraction(24), height: int = 32, width: int = 48) -> Clip:
    random = np.random.default_rng(1)
    images = random.integers(0, 255, (frames, height, width, 3), dtype=np.uint8)
    samples = int(48000 * frames / rate)
    audio = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples, dtype=np.float32) / 48000)[None]
    return Clip(images, rate, audio.astype(np.float32), 48000)


def test_a_batch_of_two_equals_two_batches_of_one(pipe: MovaPipeline) -> None:
    images, prompts = [picture(1), picture(2)], [PROMPT, "a lamp blinks and beeps, brightly"]
    both = pipe(prompts, image=images, generator=[seeded(7), seeded(8)], **SMALL)
    for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        alone = pipe(prompt, image=image, generator=seeded(7 + index), **SMALL)
        assert relative_error(both.frames[index], alone.frames[0]) <= 1e-4
        assert relative_error(both.audio[index], alone.audio[0]) <= 1e-4


def test_several_clips_use_consecutive_seeds(pipe: MovaPipeline) -> None:
    both = pipe(PROMPT, generator=seeded(40), num_videos_per_prompt=2, **SMALL)
    for index in range(2):
        alone = pipe(PROMPT, generator=seeded(40 + index), **SMALL)
        assert relative_error(both.frames[index], alone.frames[0]) <= 1e-4
    assert relative_error(both.frames[0], both.frames[1]) > 0.01


def test_one_seed_gives_one_clip(pipe: MovaPipeline) -> None:
    first, second = (pipe(PROMPT, generator=seeded(5), **SMALL) for _ in range(2))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.audio, second.audio)
    other = pipe(PROMPT, generator=seeded(6), **SMALL)
    assert not torch.equal(first.audio, other.audio)


def test_without_a_generator_clips_differ(pipe: MovaPipeline) -> None:
    assert not torch.equal(pipe(PROMPT, **SMALL).audio, pipe(PROMPT, **SMALL).audio)


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_scale": 2.0},
        {"audio_guidance_scale": 2.0},
        {"modality_scale": 3.0},
        {"modality_scale": (3.0, 1.0)},
        {"video_shift": 2.0},
        {"audio_shift": 2.0},
        {"boundary_ratio": 0.5},
        {"negative_prompt": "quiet"},
        {"num_inference_steps": 3},
        {"frame_rate": 12},
        {"image": picture(3)},
        {"last_image": picture(4)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_clip(pipe: MovaPipeline, change: dict[str, Any]) -> None:
    plain = pipe(PROMPT, generator=seeded(1), **SMALL)
    changed = pipe(PROMPT, generator=seeded(1), **(SMALL | change))
    same_sound = changed.audio.shape == plain.audio.shape and torch.equal(changed.audio, plain.audio)
    assert not (same_sound and torch.equal(changed.frames, plain.frames))


def test_what_is_not_asked_for_is_the_checkpoints_default(pipe: MovaPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pipe(PROMPT, generator=seeded(1), guidance_scale=2.0, modality_scale=3.0, **SMALL)
    monkeypatch.setattr(pipe, "defaults", Defaults(guidance_scale=2.0, modality_scale=3.0))
    assert torch.equal(pipe(PROMPT, generator=seeded(1), **SMALL).frames, asked.frames)


def test_text_only_is_a_white_first_frame(pipe: MovaPipeline) -> None:
    white = Image.new("RGB", (48, 32), "white")
    text_only = pipe(PROMPT, generator=seeded(1), **SMALL)
    assert torch.equal(text_only.frames, pipe(PROMPT, image=white, generator=seeded(1), **SMALL).frames)


def test_callback_reads_changes_and_interrupts(pipe: MovaPipeline) -> None:
    seen: list[tuple[int, float]] = []

    def watch(pipeline: MovaPipeline, step: int, timestep: float, tensors: dict[str, torch.Tensor]) -> dict:
        seen.append((step, timestep))
        pipeline._interrupt = step == 1
        return {"latents": torch.zeros_like(tensors["latents"])}

    out = pipe(
        PROMPT,
        generator=seeded(1),
        callback_on_step_end=watch,
        **(SMALL | {"num_inference_steps": 4, "output_type": "latent"}),
    )
    assert [step for step, _ in seen] == [0, 1]
    assert seen[0][1] == 1000.0
    assert torch.count_nonzero(out.frames) == 0
    assert torch.count_nonzero(out.audio) > 0


def test_output_types_agree(pipe: MovaPipeline) -> None:
    outs = {kind: pipe(PROMPT, generator=seeded(2), **(SMALL | {"output_type": kind})) for kind in ("pt", "np", "pil")}
    assert outs["pt"].frames.shape == (1, 9, 3, 32, 48)
    assert np.array_equal(outs["pt"].frames.permute(0, 1, 3, 4, 2).numpy(), outs["np"].frames)
    clips = [out.clips()[0] for out in outs.values()]
    assert all(np.array_equal(c.frames, clips[0].frames) and np.array_equal(c.audio, clips[0].audio) for c in clips)
    frames, audio = pipe(PROMPT, generator=seeded(2), return_dict=False, **SMALL)
    assert torch.equal(frames, outs["pt"].frames)
    assert torch.equal(audio, outs["pt"].audio)


def test_no_guidance_needs_no_negative_prompt(pipe: MovaPipeline) -> None:
    one, other = (
        pipe(PROMPT, generator=seeded(1), guidance_scale=1.0, negative_prompt=text, **SMALL) for text in ("a", "b")
    )
    assert torch.equal(one.frames, other.frames)


def test_prompt_embeds_stand_in_for_the_prompt(pipe: MovaPipeline) -> None:
    with torch.no_grad():
        embeds = pipe.encode_prompt([PROMPT])
        negative = pipe.encode_prompt(["quiet"])
    written = pipe(PROMPT, "quiet", generator=seeded(1), **SMALL)
    embedded = pipe(prompt_embeds=embeds, negative_prompt_embeds=negative, generator=seeded(1), **SMALL)
    assert torch.equal(written.frames, embedded.frames)


def test_sound_for_a_given_clip_keeps_its_picture(pipe: MovaPipeline) -> None:
    silent = Clip(clip(frames=7, height=30, width=50).frames, Fraction(25))
    out = pipe(PROMPT, video=silent, generator=seeded(1), num_inference_steps=2, output_type="pil").clips()[0]
    assert np.array_equal(out.frames, silent.frames)
    assert out.frame_rate == 25
    assert out.audio.shape == (1, 48000 * 7 // 25)


def test_picture_for_a_given_sound_keeps_it(pipe: MovaPipeline) -> None:
    stereo = np.random.default_rng(0).normal(0, 0.1, (2, 11025)).astype(np.float32)
    arguments = {k: v for k, v in SMALL.items() if k != "num_frames"}
    out = pipe(PROMPT, audio=(stereo, 44100), generator=seeded(1), **arguments)
    assert np.array_equal(out.audio[0].numpy(), stereo)
    assert out.sampling_rate == 44100
    assert out.frames.shape[1] == 6  # 0.25 s at 24 frames/s
    other = pipe(PROMPT, audio=(stereo * 0.1, 44100), generator=seeded(1), **arguments)
    assert not torch.equal(out.frames, other.frames)


def test_a_continued_clip_starts_with_the_old_one(pipe: MovaPipeline) -> None:
    old = clip(frames=13)
    out = pipe(PROMPT, continue_from=old, overlap_frames=5, num_frames=13, generator=seeded(1), num_inference_steps=2)
    new = out.clips()[0]
    assert new.num_frames == 13 + 8
    assert np.array_equal(new.frames[:9], old.frames[:9])
    assert new.audio.shape[1] == 48000 * 21 // 24
    seam = 13 * 2000 - 960
    assert np.allclose(new.audio[:, :seam], old.audio[:, :seam])
    steps = np.abs(np.diff(new.audio[0]))
    assert steps[seam - 10 : seam + 970].max() <= max(steps[:seam].max(), steps[seam + 970 :].max()) * 1.5


@pytest.mark.parametrize("tracks", ["both", "video", "audio"])
def test_a_retake_leaves_the_rest(pipe: MovaPipeline, tracks: str) -> None:
    old = clip(frames=13)
    out = pipe(
        PROMPT, video=old, retake=(0.25, 0.4), retake_tracks=tracks, generator=seeded(1), num_inference_steps=2
    ).clips()[0]
    changed_frames = np.flatnonzero((out.frames != old.frames).any(axis=(1, 2, 3)))
    changed_samples = np.flatnonzero(out.audio[0] != old.audio[0])
    assert out.frames.shape == old.frames.shape
    assert out.audio.shape == old.audio.shape
    if tracks == "audio":
        assert len(changed_frames) == 0
    else:
        assert changed_frames.min() == 5
        assert changed_frames.max() == 12
    if tracks == "video":
        assert len(changed_samples) == 0
    else:
        assert changed_samples.min() >= 0.25 * 48000
        assert changed_samples.max() <= 0.4 * 48000


def test_removing_the_high_noise_expert_changes_nothing_once(pipe: MovaPipeline) -> None:
    plain = pipe(PROMPT, generator=seeded(1), **SMALL)
    lean = MovaPipeline.from_pretrained(load_golden("basic").checkpoint)
    lean.set_progress_bar_config(disable=True)
    assert torch.equal(lean(PROMPT, generator=seeded(1), remove_video_dit=True, **SMALL).frames, plain.frames)
    assert lean.video_dit is None
    with pytest.raises(InputError, match="load the pipeline again"):
        lean(PROMPT, generator=seeded(1), **SMALL)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "empty"),
        ({"prompt": "word " * 10_000}, "512"),
        ({"prompt": None}, "prompt"),
        ({"height": 33}, "multiple of 16"),
        ({"num_frames": 10}, "use 9"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt"),
        ({"output_type": "mp3"}, "output_type"),
        ({"latents": torch.zeros(1, 2)}, "latents has shape"),
        ({"generator": [seeded(1), seeded(2)]}, "2 generators for 1 clips"),
        ({"image": [picture(), picture()]}, "2 images for 1 prompts"),
        ({"image": Path("no-such-file.png")}, "no-such-file.png"),
        ({"video": clip(), "continue_from": clip()}, "both given"),
        ({"retake": (0, 1)}, "video="),
        ({"video": clip(), "num_frames": None, "retake": (0.3, 0.2)}, "retake"),
        ({"video": clip(), "num_frames": None, "retake": (0.1, 0.2), "height": 64}, "48x32"),
        ({"continue_from": clip(), "overlap_frames": 4}, "overlap_frames"),
        ({"continue_from": clip(frames=3), "overlap_frames": 5}, "has 3 frames"),
        ({"continue_from": Clip(clip().frames, Fraction(24)), "overlap_frames": 5}, "no sound"),
        ({"continue_from": clip(), "overlap_frames": 5, "frame_rate": 30}, "frames/s"),
        ({"audio": Clip(clip().frames, Fraction(24))}, "no sound"),
        ({"audio": (np.zeros((1, 0)), 48000)}, "audio has shape"),
        ({"last_image": picture(), "num_frames": 1}, "last frame"),
    ],
)
def test_bad_input_is_refused(pipe: MovaPipeline, bad: dict[str, Any], message: str) -> None:
    from phonofilm.errors import PhonofilmError

    with pytest.raises(PhonofilmError, match=message):
        pipe(**({"prompt": PROMPT} | SMALL | bad))
