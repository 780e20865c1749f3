"""Timesteps, noising, held tracks, dropouts and the loss, each against what it is defined to be."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from phonofilm.training.config.training_config import JointConfig, ObjectiveConfig, TimestepConfig
from phonofilm.training.task.objective import Sample, add_noise, draw, noised, velocity, velocity_loss, with_condition
from phonofilm.training.task.timesteps import draw_positions, draw_sigmas, expert_positions, sigma_table

MANY = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(count: int, silent: tuple[int, ...] = ()) -> Sample:
    g = generator(9)
    return Sample(
        torch.randn(count, 4, 3, 4, 4, generator=g),
        torch.randn(count, 4, 3, 4, 4, generator=g),
        torch.randn(count, 6, 10, generator=g),
        torch.tensor([row not in silent for row in range(count)]),
        torch.full((4, 3, 4, 4), 7.0),
    )


def objective(**changes: object) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate({"caption_dropout": 0.0, **changes})


def test_following_the_target_velocity_from_noise_arrives_at_the_clean_latents() -> None:
    clean, noise = torch.randn(2, 3, generator=generator()), torch.randn(2, 3, generator=generator(1))
    sigma = torch.tensor([0.3, 1.0])
    arrived = add_noise(clean, noise, sigma) + velocity(clean, noise) * (0 - sigma[:, None])
    assert torch.allclose(arrived, clean, atol=1e-6)


def test_the_boundary_is_read_from_the_scheduler_table() -> None:
    assert expert_positions(TimestepConfig(video_shift=3.0), "high") == (0.0, 0.251)
    start, end = expert_positions(TimestepConfig(video_shift=5.0), "high")
    assert start == 0.0
    assert end == pytest.approx(0.359)
    table = sigma_table(TimestepConfig(), 5.0)
    assert table[358] >= 0.9 > table[359]
    assert expert_positions(TimestepConfig(video_shift=3.0, sigma_min=0.0), "low") == (0.251, 1.0)


@pytest.mark.parametrize("mode", ["shared", "independent"])
@pytest.mark.parametrize("density", ["uniform", "logit_normal", "mode"])
def test_each_expert_sees_its_own_video_sigmas_and_no_others(mode: str, density: str) -> None:
    config = TimestepConfig.model_validate({"mode": mode, "density": density})
    high = draw_sigmas(config, "high", MANY, generator()).video
    low = draw_sigmas(config, "low", MANY, generator()).video
    assert high.min() >= 0.9 - 1e-6
    assert high.max() <= 1.0
    assert low.max() < 0.9 + 1e-6
    assert low.max() > 0.88
    assert low.min() < 0.15


def test_shared_timesteps_are_uniform_over_the_table_and_equal_for_both_tracks() -> None:
    config = TimestepConfig()
    sigmas = draw_sigmas(config, "both", MANY, generator())
    table = sigma_table(config, 5.0)
    assert torch.equal(sigmas.video, sigmas.audio)
    assert set(sigmas.video.tolist()) <= set(table.tolist())
    assert float((sigmas.video >= table[499]).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_dual_shift_gives_shared_timesteps_one_index_and_two_sigmas() -> None:
    config = TimestepConfig(video_shift=5.0, audio_shift=1.0)
    sigmas = draw_sigmas(config, "both", 100, generator())
    index = [sigma_table(config, 5.0).tolist().index(value) for value in sigmas.video.tolist()]
    assert torch.equal(sigma_table(config, 1.0)[index], sigmas.audio)


def test_independent_timesteps_are_uncorrelated_and_each_follows_its_shift() -> None:
    config = TimestepConfig(mode="independent", video_shift=3.0, audio_shift=1.0)
    sigmas = draw_sigmas(config, "both", MANY, generator())
    assert abs(float(torch.corrcoef(torch.stack([sigmas.video, sigmas.audio]))[0, 1])) < 0.03
    assert float(sigmas.audio.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(sigmas.video.median()) == pytest.approx(0.75, abs=0.01)


def test_the_audio_of_the_high_expert_covers_the_whole_axis_when_independent() -> None:
    sigmas = draw_sigmas(TimestepConfig(mode="independent"), "high", MANY, generator())
    assert float(sigmas.audio.min()) < 0.05


def test_densities_differ_from_uniform_where_they_should() -> None:
    def middle(density: str) -> float:
        config = TimestepConfig.model_validate({"density": density})
        positions = draw_positions(config, MANY, 0.0, 1.0, generator())
        return float(((positions > 0.25) & (positions < 0.75)).float().mean())

    assert middle("uniform") == pytest.approx(0.5, abs=0.02)
    assert middle("logit_normal") > 0.65
    assert middle("mode") > 0.6


def test_a_held_track_is_clean_at_timestep_zero_and_not_learnt() -> None:
    batch = sample(400)
    config = objective(hold_video=0.3, hold_audio=0.2, bridge_dropout=0.9)
    drawn = draw(config, batch, "both", generator(), generator(1))
    held_video, held_audio = drawn.learn_video == 0, drawn.learn_audio == 0
    assert 80 < int(held_video.sum()) < 160
    assert 45 < int(held_audio.sum()) < 120
    assert not (held_video & held_audio).any()
    assert torch.equal(drawn.video_sigma == 0, held_video)
    inputs = noised(batch, drawn)
    assert torch.equal(inputs.video[held_video, :4], batch.video[held_video])
    assert torch.equal(inputs.audio[held_audio], batch.audio[held_audio])
    assert (drawn.bridge_scale[held_video | held_audio] == 1).all()
    assert float(drawn.bridge_scale.mean()) < 0.65


def test_the_high_expert_never_sees_a_held_video() -> None:
    drawn = draw(objective(hold_video=1.0), sample(50), "high", generator(), generator(1))
    assert (drawn.learn_video == 1).all()
    assert (drawn.video_sigma >= 0.9 - 1e-6).all()


def test_a_clip_without_sound_has_no_audio_loss_and_no_bridge() -> None:
    batch = sample(4, silent=(1, 3))
    drawn = draw(objective(hold_video=0.5, hold_audio=0.5), batch, "both", generator(), generator(1))
    assert drawn.learn_audio[[1, 3]].tolist() == [0, 0]
    assert drawn.learn_video[[1, 3]].tolist() == [1, 1]
    assert drawn.bridge_scale[[1, 3]].tolist() == [0, 0]


def test_dropouts_have_their_shares_and_unconditional_drops_caption_and_bridge_together() -> None:
    batch = sample(4000)
    drawn = draw(objective(caption_dropout=0.2, first_frame_dropout=0.3), batch, "both", generator(), generator(1))
    assert float(drawn.keep_caption.float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(drawn.keep_first_frame.float().mean()) == pytest.approx(0.7, abs=0.03)
    assert (drawn.bridge_scale == 1).all()
    both = draw(objective(unconditional_dropout=0.25), batch, "both", generator(), generator(1))
    assert float(both.bridge_scale.mean()) == pytest.approx(0.75, abs=0.03)
    assert torch.equal(both.bridge_scale == 1, both.keep_caption)


def test_a_dropped_first_frame_is_conditioned_on_the_white_one_behind_the_same_mask() -> None:
    batch = sample(40)
    drawn = draw(objective(first_frame_dropout=0.5), batch, "both", generator(), generator(1))
    video = noised(batch, drawn).video
    assert torch.equal(video[:, 4:8], with_condition(batch.video, batch.condition)[:, 4:8])
    assert (video[:, 4:8, 0] == 1).all()
    assert (video[:, 4:8, 1:] == 0).all()
    assert (video[~drawn.keep_first_frame, 8:] == 7.0).all()
    assert torch.equal(video[drawn.keep_first_frame, 8:], batch.condition[drawn.keep_first_frame])


def test_the_loss_is_the_weighted_sum_of_masked_mean_squares() -> None:
    batch = sample(6, silent=(2,))
    config = objective(video_weight=2.0, audio_weight=0.2)
    drawn = draw(config, batch, "both", generator(), generator(1))
    target = noised(batch, drawn)
    loss = velocity_loss(config, target.video_velocity + 1, target.audio_velocity + 2, target, drawn)
    assert float(loss.total) == pytest.approx(2.0 * 1 + 0.2 * 4 * 5 / 6, rel=1e-5)
    assert loss.video.tolist() == pytest.approx([1.0] * 6)


def test_the_same_generator_gives_the_same_draw_and_another_a_different_one() -> None:
    batch = sample(3)
    first, again, other = (draw(objective(), batch, "both", generator(s), generator(s)) for s in (1, 1, 2))
    assert torch.equal(first.video_noise, again.video_noise)
    assert torch.equal(first.video_sigma, again.video_sigma)
    assert not torch.equal(first.video_noise, other.video_noise)


def test_an_unknown_key_or_an_endless_run_is_refused() -> None:
    with pytest.raises(ValidationError, match="batchsize"):
        JointConfig.model_validate({"batchsize": 3, "max_steps": 1})
    with pytest.raises(ValidationError, match="needs an end"):
        JointConfig()
    with pytest.raises(ValidationError, match="only one track held"):
        objective(hold_video=0.6, hold_audio=0.6)
    with pytest.raises(ValidationError, match="nothing would be learnt"):
        objective(video_weight=0, audio_weight=0)
    with pytest.raises(ValidationError, match="train is empty"):
        JointConfig(max_steps=1, train=())
