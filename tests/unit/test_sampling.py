"""The sampling loop integrates a known velocity field exactly, and keeps what is given of a track."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from phonofilm.pipeline.guidance import Evaluation, guidance_per_step
from phonofilm.pipeline.sampling import clean_where_known, sample
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, Step
from phonofilm.pipeline.types import KnownLatents, Latents

SCHEDULER = FlowMatchPairScheduler(shift=5.0, extra_one_step=True)
STEPS = SCHEDULER.steps(5, video_shift=7.0, audio_shift=3.0)
PLAIN = guidance_per_step(5, 1.0, None, None)


def noise() -> Latents:
    generator = torch.Generator().manual_seed(3)
    return Latents(torch.randn(2, 3, 4, 2, 2, generator=generator), torch.randn(2, 5, 7, generator=generator))


def straight_to(target: Latents, start: Latents):
    """The exact velocity of straight paths from `start` to `target`: Euler must land on the target."""
    return lambda step, now, asked: [Latents(start.video - target.video, start.audio - target.audio) for _ in asked]


def test_straight_paths_end_on_their_target() -> None:
    start = noise()
    target = Latents(torch.ones_like(start.video), torch.full_like(start.audio, 2.0))
    out = sample(straight_to(target, start), start, STEPS, PLAIN)
    assert torch.allclose(out.video, target.video, atol=1e-5)
    assert torch.allclose(out.audio, target.audio, atol=1e-5)


def test_a_track_held_whole_is_clean_at_timestep_zero_throughout() -> None:
    start = noise()
    clean = torch.full_like(start.audio, 0.25)
    seen: list[tuple[float, float]] = []

    def velocity(step: Step, now: Latents, asked: Sequence[Evaluation]) -> list[Latents]:
        seen.append((step.video.timestep, step.audio.timestep))
        assert torch.equal(now.audio, clean)
        return [Latents(torch.ones_like(now.video), torch.full_like(now.audio, 9.0)) for _ in asked]

    held = KnownLatents(clean, torch.ones(7, dtype=torch.bool))
    out = sample(velocity, start, clean_where_known(STEPS, None, held), PLAIN, known_audio=held)
    assert torch.equal(out.audio, clean)
    assert {audio for _, audio in seen} == {0.0}
    assert [video for video, _ in seen] == [s.video.timestep for s in STEPS]


def test_a_held_prefix_follows_its_own_noise_and_ends_exact() -> None:
    start = noise()
    clean = torch.full_like(start.video, 0.5)
    where = torch.tensor([True, True, False, False])
    levels: list[float] = []

    def velocity(step: Step, now: Latents, asked: Sequence[Evaluation]) -> list[Latents]:
        expected = (1 - step.video.sigma) * clean + step.video.sigma * start.video
        assert torch.allclose(now.video[:, :, :2], expected[:, :, :2])
        levels.append(step.video.sigma)
        return [Latents(torch.zeros_like(now.video), torch.zeros_like(now.audio)) for _ in asked]

    out = sample(velocity, start, STEPS, PLAIN, known_video=KnownLatents(clean, where))
    assert levels == [s.video.sigma for s in STEPS]
    assert torch.equal(out.video[:, :, :2], clean[:, :, :2])
    assert torch.equal(out.video[:, :, 2:], start.video[:, :, 2:])


def test_a_step_callback_can_change_and_stop() -> None:
    start = noise()
    seen: list[int] = []

    def on_step(step: Step, now: Latents) -> tuple[Latents, bool]:
        seen.append(step.index)
        return Latents(now.video * 0, now.audio), step.index == 2

    still = straight_to(start, start)
    out = sample(still, start, STEPS, PLAIN, on_step=on_step)
    assert seen == [0, 1, 2]
    assert torch.count_nonzero(out.video) == 0
    assert torch.equal(out.audio, start.audio)
