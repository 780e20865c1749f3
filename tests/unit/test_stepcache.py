"""The step cache decides once for both tracks, keeps away from where it must, and gives back what was computed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from phonofilm.errors import InputError
from phonofilm.pipeline.guidance import Evaluation, Guidance, guidance_per_step
from phonofilm.pipeline.sampling import sample
from phonofilm.pipeline.sampling_limits import cache_name, parse_cache
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, Step
from phonofilm.pipeline.stepcache import StepCache, always_computed
from phonofilm.pipeline.types import Latents

P, N = Evaluation.PROMPT, Evaluation.NEGATIVE
STEPS = FlowMatchPairScheduler(shift=5.0, extra_one_step=True).steps(50)
PHASES = ["high"] * 18 + ["low"] * 32
GUIDED = guidance_per_step(50, 5.0, None, None)
START = Latents(torch.linspace(-2, 2, 12).reshape(1, 1, 3, 2, 2), torch.linspace(-1, 2, 5).reshape(1, 1, 5))


class Model:
    """Velocities towards two targets, one for each evaluation; `wild` makes one track's change at every step."""

    def __init__(self, wild: str | None = None) -> None:
        self.wild = wild
        self.asked: list[tuple[int, tuple[Evaluation, ...]]] = []

    def __call__(self, step: Step, now: Latents, evaluations: Sequence[Evaluation]) -> list[Latents]:
        self.asked.append((step.index, tuple(evaluations)))
        goals = {P: 1.5, N: 0.5}
        swing = (-1.0) ** step.index * 5
        return [
            Latents(
                START.video - goals[e] + 0.1 * now.video + (swing if self.wild == "video" else 0),
                START.audio - goals[e] + 0.1 * now.audio + (swing if self.wild == "audio" else 0),
            )
            for e in evaluations
        ]

    @property
    def computed(self) -> set[int]:
        return {index for index, _ in self.asked}


def run(threshold: float, wild: str | None = None, guidance: Sequence[Guidance] = GUIDED) -> tuple[Model, StepCache]:
    model = Model(wild)
    cache = StepCache(model, threshold, PHASES)
    sample(cache, START, STEPS, guidance, phases=PHASES)
    return model, cache


def test_a_smooth_model_is_asked_for_fewer_than_55_of_100_forwards() -> None:
    model, cache = run(0.1)
    assert sum(len(evaluations) for _, evaluations in model.asked) <= 55
    assert cache.skipped == 50 - len(model.asked)


def test_a_higher_threshold_skips_more_and_a_tiny_one_nothing() -> None:
    skipped = [run(threshold)[1].skipped for threshold in (1e-9, 0.01, 1.0)]
    assert skipped[0] == 0
    assert 0 < skipped[1] < skipped[2]


def test_the_ends_and_both_sides_of_the_switch_are_always_computed() -> None:
    must = {0, 1, 2, 3, 4, 17, 18, 44, 45, 46, 47, 48, 49}
    assert always_computed(PHASES) == must
    model, _ = run(1e6)
    assert must <= model.computed
    assert 19 in model.computed  # the second under the new expert: its rate of change is not known before
    assert len(model.computed) < 20


@pytest.mark.parametrize("count", [1, 2, 3])
def test_runs_of_a_few_steps_are_computed_whole(count: int) -> None:
    assert set(range(count)) <= always_computed(["low"] * count)


@pytest.mark.parametrize("wild", ["video", "audio"])
def test_one_track_that_changes_keeps_both_computed(wild: str) -> None:
    assert run(0.1)[1].skipped > 20
    assert run(0.1, wild)[1].skipped == 0


class Recorded(StepCache):
    """Keeps what each step was answered, and whether from memory, before its caller overwrites it."""

    def __call__(self, step: Step, latents: Latents, evaluations: Sequence[Evaluation]) -> Sequence[Latents]:
        before = self.skipped
        answers = super().__call__(step, latents, evaluations)
        copies = [Latents(a.video.clone(), a.audio.clone()) for a in answers]
        self.answers = [*getattr(self, "answers", []), (self.skipped > before, copies)]
        for answer in answers:  # as a caller may
            answer.video.zero_()
            answer.audio.zero_()
        return copies


def test_a_skipped_step_gives_every_evaluation_of_both_tracks_as_last_computed() -> None:
    cache = Recorded(Model(), 0.5, PHASES)
    sample(cache, START, STEPS, GUIDED, phases=PHASES)
    last: list[Latents] = []
    compared = 0
    for from_memory, answers in cache.answers:
        if from_memory:
            assert len(answers) == 2
            assert not torch.equal(answers[0].video, answers[1].video)
            for answer, computed in zip(answers, last, strict=True):
                assert torch.equal(answer.video, computed.video)
                assert torch.equal(answer.audio, computed.audio)
            compared += 1
        else:
            last = answers
    assert compared == cache.skipped > 10


def test_an_evaluation_that_was_not_computed_last_is_computed() -> None:
    late = [Guidance() if i < 30 else Guidance(5, 5) for i in range(50)]
    model, cache = run(1e6, guidance=late)
    assert 30 in model.computed
    assert (30, (P, N)) in model.asked
    assert cache.skipped > 10


def test_a_track_that_does_not_move_decides_nothing() -> None:
    still = [Step(s.index, s.total, s.video, s.audio.__class__(0.0, 0.0, 0.0)) for s in STEPS]
    model = Model("audio")
    cache = StepCache(model, 0.1, PHASES)
    sample(cache, START, still, GUIDED, phases=PHASES)
    assert cache.skipped > 20


@pytest.mark.parametrize(("text", "threshold"), [("none", None), ("easy:0.2", 0.2), ("easy", 0.05)])
def test_a_cache_is_asked_for_by_name_and_threshold(text: str, threshold: float | None) -> None:
    assert parse_cache(text) == threshold
    assert parse_cache(cache_name(threshold)) == threshold


@pytest.mark.parametrize("text", ["", "tea", "tea:0.1", "easy:", "easy:x", "easy:0", "easy:-1", "easy:inf", "easy:nan"])
def test_a_cache_that_does_not_exist_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="use none, or easy:THRESHOLD"):
        parse_cache(text)
