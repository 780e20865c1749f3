"""The cache rebuilds exactly what has changed, and holds what the pipeline would have made of the same clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import Golden
from tests.unit.test_data_doctor import noise, scene

from phonofilm.data.cache import Built, read_cached_window, read_index, read_text, update_cache
from phonofilm.data.encoders import EncodedWindow, Encoders
from phonofilm.data.sets import Source, gather
from phonofilm.data.show import decoded
from phonofilm.data.window_reading import read_window
from phonofilm.data.windows import Bucket, ClipWindow, WindowPlan
from phonofilm.errors import InputError, MediaError
from phonofilm.media import Clip, save_clip
from phonofilm.models.layout import read_layout
from phonofilm.pipeline.conditions import encode_text, encode_video, tokenize
from phonofilm.training.task.cached_clips import CachedClips

PLAN = WindowPlan((Bucket(16, 16, 5),))
Update = Callable[..., Built]


def write_clip(path: Path, seed: int, caption: str, *, silent: bool = False) -> None:
    frames, wave = scene(10, 16, seed), None if silent else noise(1, 0.4)
    save_clip(Clip(frames, Fraction(24), wave, None if silent else 48000), path)
    path.with_suffix(".txt").write_text(caption)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, caption in enumerate(("a ball", "a lamp", "a ball")):
        write_clip(tmp_path / "clips" / f"{number}.mp4", number, caption, silent=number == 2)
    return tmp_path / "clips"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def encoders(basic: Golden) -> Encoders:
    return Encoders(read_layout(basic.checkpoint), torch.device("cpu"))


@pytest.fixture
def update(data: Path, cache: Path, encoders: Encoders) -> Update:
    def run(plan: WindowPlan = PLAN, encoders: Encoders = encoders, weight: float = 1.0) -> Built:
        return update_cache(cache, gather([Source(data, weight)], plan), "basic", encoders)

    return run


def written(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}


def test_exactly_what_changed_is_rebuilt(
    data: Path, cache: Path, update: Update, basic: Golden, tmp_path: Path
) -> None:
    assert update() == Built(latents_made=3, text_made=3)  # two captions and the empty one
    first = written(cache)
    assert update() == Built(latents_kept=3, text_kept=3)
    assert written(cache) == first
    write_clip(data / "1.mp4", 7, "a lamp")
    assert update() == Built(latents_made=1, latents_kept=2, text_kept=3, removed=1)
    (data / "1.txt").write_text("a lamp that flickers")
    assert update() == Built(latents_kept=3, text_made=1, text_kept=2, removed=1)
    (data / "0.mp4").rename(data / "9.mp4")
    (data / "0.txt").rename(data / "9.txt")
    assert update() == Built(latents_kept=3, text_kept=3)
    assert update(replace(PLAN, frame_rate=Fraction(25))).latents_made == 3
    other = tmp_path / "checkpoint"
    for file in basic.checkpoint.rglob("*.*"):
        (other / file.relative_to(basic.checkpoint)).parent.mkdir(parents=True, exist_ok=True)
        (other / file.relative_to(basic.checkpoint)).write_bytes(file.read_bytes())
    weights = load_file(other / "audio_vae" / "diffusion_pytorch_model.safetensors")
    changed = {key: tensor.clone() for key, tensor in weights.items()}
    changed[min(changed)].view(-1)[0] += 0.5
    save_file(changed, other / "audio_vae" / "diffusion_pytorch_model.safetensors")
    assert update() == Built(latents_made=3, text_kept=3, removed=4)
    trained_on = Encoders(read_layout(other), torch.device("cpu"))
    with pytest.raises(InputError, match="was made with the autoencoders of basic"):
        next(decoded(cache, trained_on))
    assert update(encoders=trained_on) == Built(latents_made=3, text_kept=3, removed=4)
    (_, silent) = list(decoded(cache, trained_on))[1]  # by name: 1, 2, and 9, which was 0
    assert (silent.num_frames, silent.audio) == (5, None)


def test_a_sound_added_to_a_clip_is_noticed(data: Path, cache: Path, update: Update) -> None:
    update()
    assert [entry.has_audio for entry in read_index(cache).entries] == [True, True, False]
    sound = noise(1, 0.4)
    save_clip(Clip(scene(10, 16, 2), Fraction(24), sound, 48000), data / "2.mp4")
    assert update().latents_made == 1
    assert [entry.has_audio for entry in read_index(cache).entries] == [True, True, True]


def test_items_are_what_the_pipeline_makes(data: Path, cache: Path, update: Update, encoders: Encoders) -> None:
    update()
    window = gather([Source(data)], PLAN)[1].window
    entry = read_index(cache).entries[1]
    item, clip = read_cached_window(cache, entry.latents), read_window(window, 48000)
    assert clip.audio is not None
    assert np.array_equal(clip.frames.shape, (5, 16, 16, 3))
    pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    grey = torch.cat([pixels[:, :, :1], torch.zeros_like(pixels[:, :, 1:])], 2)
    with torch.no_grad():
        assert torch.equal(item.video, encode_video(encoders.video_vae, pixels, torch.device("cpu"))[0].half())
        assert torch.equal(item.condition, encode_video(encoders.video_vae, grey, torch.device("cpu"))[0].half())
        assert torch.equal(item.audio, encoders.audio_vae.encode(torch.from_numpy(clip.audio)[None]).mode()[0].half())
        tokens = tokenize(encoders.tokenizer, ["a lamp"])
        text = encode_text(encoders.text_encoder, tokens, torch.device("cpu"))
    cached = read_text(cache, entry.text)
    assert torch.allclose(cached.embeds, text.embeds[0, : len(cached.tokens)].float(), atol=1e-5)
    assert cached.tokens.tolist() == tokens.ids[0, : int(tokens.mask.sum())].tolist()


def test_the_trainer_reads_the_cache_as_it_is(cache: Path, update: Update) -> None:
    update(weight=2)
    clips = CachedClips(cache, seed=0)
    index = read_index(cache)
    assert [entry.weight for entry in index.entries] == [2.0] * 3
    assert {path.name for path in cache.iterdir()} == {"latents", "text", "index.json"}
    (bucket,) = clips.buckets
    sample = clips.batch_of(bucket, index.entries[1:], torch.device("cpu")).sample
    assert torch.equal(sample.video[0], read_cached_window(cache, index.entries[1].latents).video.float())
    assert sample.has_audio.tolist() == [True, False]


@pytest.mark.parametrize(("track", "value"), [("video", float("nan")), ("audio", float("inf"))])
def test_latents_that_are_not_finite_are_refused_by_the_clips_name(
    track: str, value: float, cache: Path, encoders: Encoders, update: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = encoders.latents

    def broken(window: ClipWindow) -> EncodedWindow:
        latents = made(window)
        if window.item.file.name == "1.mp4":
            getattr(latents, track).view(-1)[3] = value
        return latents

    monkeypatch.setattr(encoders, "latents", broken)
    with pytest.raises(MediaError, match=rf"1\.mp4@0\.000: 1 of .* numbers of its {track} latents are not finite"):
        update()
    assert not (cache / "index.json").exists()


def test_what_cannot_be_cached_is_told_before_anything_is_encoded(data: Path, cache: Path, update: Update) -> None:
    with pytest.raises(InputError, match="height 24 is not a multiple of 16"):
        update(WindowPlan((Bucket(24, 16, 5),)))
    (data / "1.txt").write_text("")
    with pytest.raises(InputError, match=r"1 windows have no caption, the first of them in 1\.mp4"):
        update()
    assert not cache.exists()
    with pytest.raises(InputError, match="is no cache"):
        read_index(cache)
    cache.mkdir()
    (cache / "index.json").write_text("{}")
    with pytest.raises(InputError, match="make the cache again"):
        read_index(cache)


def test_an_interrupted_update_goes_on(data: Path, cache: Path, encoders: Encoders, update: Update) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_cache(cache, gather([Source(data)], PLAN), "basic", encoders, stop)
    assert update() == Built(latents_made=1, latents_kept=2, text_made=3)
