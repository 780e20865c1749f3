"""Guidance asks for the evaluations it needs, no more, and adds them up as the paper's formula says."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import Golden, relative_error

from phonofilm.errors import InputError
from phonofilm.pipeline.guidance import Evaluation, Guidance, guidance_per_step, guided
from phonofilm.pipeline.types import Latents

P, N, A = Evaluation.PROMPT, Evaluation.NEGATIVE, Evaluation.NEGATIVE_ALONE


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (Guidance(5, 5, 3.5), {P, N, A}),
        (Guidance(5, 5, 1), {P, N}),
        (Guidance(3, 3, 3), {P, A}),
        (Guidance(1, 1, 1), {P}),
        (Guidance(1, 4, 1), {P, N}),
        (Guidance(0, 0, 1), {N}),
    ],
)
def test_only_evaluations_with_a_weight_run(guidance: Guidance, expected: set[Evaluation]) -> None:
    assert set(guidance.evaluations) == expected


def test_formula_per_modality() -> None:
    generator = torch.Generator().manual_seed(0)
    velocities = {
        e: Latents(*(torch.randn(1, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2)))
        for e in Evaluation
    }
    out = guided(lambda asked: [velocities[e] for e in asked], Guidance(video_text=5, audio_text=2, modality=3.5))
    for modality, text in (("video", 5), ("audio", 2)):
        v = {e: getattr(velocities[e], modality) for e in Evaluation}
        expected = v[A] + 3.5 * (v[N] - v[A]) + text * (v[P] - v[N])
        assert torch.allclose(getattr(out, modality), expected, rtol=1e-12)


def test_dual_guidance_agrees_with_the_golden_numbers(golden: Golden) -> None:
    names = {P: "", N: "_negative", A: "_negative_bridge_off"}

    def evaluate(e: Evaluation) -> Latents:
        return Latents(golden[f"joint/video_out{names[e]}"], golden[f"joint/audio_out{names[e]}"])

    out = guided(lambda asked: [evaluate(e) for e in asked], Guidance(5, 5, 3.5))
    assert relative_error(out.video, golden["joint/video_dual_cfg_T5_B3.5"]) <= 1e-5
    assert relative_error(out.audio, golden["joint/audio_dual_cfg_T5_B3.5"]) <= 1e-5


def test_modality_scale_is_spread_over_the_steps() -> None:
    assert [g.modality for g in guidance_per_step(5, 5.0, None, (3.0, 1.0))] == [3.0, 2.5, 2.0, 1.5, 1.0]
    assert [g.modality for g in guidance_per_step(3, 5.0, None, (3.0, 1.0, 2.0))] == [3.0, 1.0, 2.0]
    assert {g.modality for g in guidance_per_step(4, 5.0, None, 2.5)} == {2.5}


def test_audio_guidance_follows_video_unless_given() -> None:
    assert guidance_per_step(1, 5.0, None, None)[0] == Guidance(5.0, 5.0, 1.0)
    assert guidance_per_step(1, 5.0, 2.0, None)[0] == Guidance(5.0, 2.0, 1.0)


@pytest.mark.parametrize("scales", [(float("nan"), None, None), (5.0, float("inf"), None), (5.0, None, ())])
def test_scales_that_are_no_numbers_are_refused(scales: tuple) -> None:
    with pytest.raises(InputError):
        guidance_per_step(4, *scales)
