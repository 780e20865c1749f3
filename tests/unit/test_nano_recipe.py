"""The whole recipe at tiny sizes: every stage runs, resumes, and the checkpoint makes a clip without knowing the world."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from phonofilm.errors import InputError
from phonofilm.models.audio_vae import DAC
from phonofilm.training.task.latent_dataset import LatentDataset
from recipes.nano.audio_vae.train_audio_decoder import AUDIO_DECODER
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig
from recipes.nano.further import SCENES, FurtherConfig, train_on
from recipes.nano.recipe import EXPERTS, JOINT, Recipe, RecipeRun, TextConfig
from recipes.nano.stages import run_recipe, stage_functions
from recipes.nano.towers.encode_world import LatentConfig
from recipes.nano.towers.train_towers import TowerConfig
from recipes.nano.video_vae.train_video_vae import Phase, VideoVaeConfig

FEW_STEPS = {"max_steps": 3, "budget_seconds": None, "batch_size": 2, "log_every": 1, "checkpoint_every": 2}
TINY = Recipe(
    video_vae=VideoVaeConfig(
        size=16,
        num_frames=5,
        base_dim=4,
        decoder_base_dim=4,
        latent_channels=4,
        max_steps=2,
        phases=(Phase(0.5, 1, 2), Phase(0.5, 5, 2)),
        bank_clips=3,
        statistics_clips=2,
        held_out=1,
        autocast=False,
    ),
    audio_vae=AudioVaeConfig(
        encoder_dim=2, decoder_dim=16, latent_dim=4, train_clips=3, held_out_clips=2, watched_clips=1, max_steps=2
    ),
    audio_decoder=replace(AUDIO_DECODER, train_clips=3, held_out_clips=2, watched_clips=1, max_steps=2, crop_hops=24),
    text=TextConfig(captions=40, width=16, layers=1, heads=2),
    latents=LatentConfig(clips=4, size=16, num_frames=5, batch=3, autocast=False),
    held_out=2,
    validate_every=0,
    sample_every=0,
    towers=TowerConfig(video_dim=48, audio_dim=24, layers=2, head_dim=24, freq_dim=16),
    joint=JOINT.model_copy(update=FEW_STEPS),
    experts=EXPERTS.model_copy(update=FEW_STEPS),
    defaults={"height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 2, "guidance_scale": 2.0},
)
MAKE_A_CLIP = """
import sys
sys.modules["phonofilm.nano.world"] = sys.modules["recipes"] = None  # whoever imports the world or the recipe, fails
import numpy as np, torch
torch.set_num_threads(1)
from phonofilm.pipeline.mova import MovaPipeline
pipeline = MovaPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
made = pipeline("a red ball", output_type="np", generator=torch.Generator().manual_seed(0))
assert np.asarray(made.frames).shape == (1, 5, 16, 16, 3), np.asarray(made.frames).shape
assert np.isfinite(np.asarray(made.audio)).all()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecipeRun:
    torch.set_num_threads(1)
    finished = RecipeRun(TINY, tmp_path_factory.mktemp("nano"))
    assert run_recipe(finished) == finished.checkpoint
    return finished


def test_every_stage_leaves_what_the_next_one_reads(run: RecipeRun) -> None:
    for folder in (
        run.video_vae,
        run.audio_vae,
        run.audio_decoder,
        run.text,
        run.latents,
        run.joint,
        run.experts,
        run.checkpoint,
    ):
        assert folder.is_dir()
    dataset = LatentDataset(run.latents)
    assert len(dataset) == 4
    assert dataset.arrays["video"].shape == (4, 4, 2, 2, 2)
    index = (run.checkpoint / "model_index.json").read_text()
    assert '"video_dit_2"' in index


def test_the_decoder_learns_on_while_the_latents_stay_as_they_are(run: RecipeRun) -> None:
    before, after = (DAC.from_pretrained(folder).state_dict() for folder in (run.audio_vae, run.audio_decoder))
    changed = {name.split(".")[0] for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_the_checkpoint_makes_a_clip_without_the_world(run: RecipeRun) -> None:
    subprocess.run([sys.executable, "-c", MAKE_A_CLIP, str(run.checkpoint)], check=True)


def test_samples_and_validation_are_kept_while_the_towers_train(run: RecipeRun) -> None:
    for stage in (run.joint, run.experts):
        for name in ("step-000000/ball.mp4", "step-000003/ball.png", "step-000003/lamp.mp4"):
            assert (stage / "samples" / name).is_file()
        assert "val/audio/no_bridge" in (stage / "metrics.csv").read_text()


def test_a_finished_stage_is_not_run_again(run: RecipeRun) -> None:
    watched = [run.video_vae, run.latents, run.joint / "networks", run.experts / "networks"]
    before = [folder.stat().st_mtime_ns for folder in watched]
    run_recipe(run, [name for name in stage_functions() if name != "package"])
    assert [folder.stat().st_mtime_ns for folder in watched] == before


def test_the_experts_differ_after_their_training(run: RecipeRun) -> None:
    from phonofilm.models.video import WanModel

    high, low = (WanModel.from_pretrained(run.experts / "networks" / name) for name in ("video_dit", "video_dit_2"))
    assert any(not torch.equal(a, b) for a, b in zip(high.parameters(), low.parameters(), strict=True))


def test_stages_in_the_wrong_order_or_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run the stage text first"):
        run_recipe(RecipeRun(TINY, tmp_path), ["joint"])
    with pytest.raises(InputError, match="the stages are video-vae"):
        run_recipe(RecipeRun(TINY, tmp_path), ["cooking"])


def test_a_finished_checkpoint_is_trained_on_with_more_balls(run: RecipeRun, tmp_path: Path) -> None:
    from phonofilm.models.video import WanModel

    latents = replace(TINY.latents, clips=6, first_seed=100_000, scenes=SCENES, bare=3)
    training = FurtherConfig().training.model_copy(update=FEW_STEPS)
    config = FurtherConfig(latents, held_out=2, validate_every=2, training=training)
    made = train_on(str(run.checkpoint), tmp_path, config)
    assert made == tmp_path / "checkpoint"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(made / "tokenizer")
    seen, lengths = (LatentDataset(tmp_path / "latents").arrays[name] for name in ("tokens", "lengths"))
    stop = tokenizer.convert_tokens_to_ids(".")
    # Every third caption lacks its full stop: the token before the end mark.
    last = [int(row[length - 2]) for row, length in zip(seen, lengths.tolist(), strict=True)]
    assert [token == stop for token in last] == [True, True, False] * 2
    for name in ("video_dit", "video_dit_2"):
        before, after = (WanModel.from_pretrained(folder / name).state_dict() for folder in (run.checkpoint, made))
        assert before.keys() == after.keys()
        assert any(not torch.equal(before[key], after[key]) for key in before), name
    autoencoder = "video_vae/diffusion_pytorch_model.safetensors"
    assert (made / autoencoder).read_bytes() == (run.checkpoint / autoencoder).read_bytes()
    assert train_on(str(run.checkpoint), tmp_path, config) == made
    for source, folder in ((run.checkpoint, run.folder), (tmp_path / "nowhere", tmp_path)):
        with pytest.raises(InputError, match=r"another folder|no checkpoint"):
            train_on(str(source), folder, config)


def test_a_scene_that_is_named_twice_is_seen_twice_as_often() -> None:
    from recipes.nano.towers.encode_world import _rendered

    config = replace(TINY.latents, scenes=("ball", "face", "ball", "lamp"))
    assert [clip.attributes["scene"] for clip in _rendered(config, range(4))] == ["ball", "face", "ball", "lamp"]
