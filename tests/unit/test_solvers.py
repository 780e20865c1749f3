"""Every solver reaches its order on an equation whose solution is known, for both tracks on their own sigmas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.pipeline.guidance import Evaluation, Guidance
from phonofilm.pipeline.sampling import clean_where_known, sample
from phonofilm.pipeline.schedule import Step, TrackStep
from phonofilm.pipeline.solvers import SOLVERS, PairSolver
from phonofilm.pipeline.types import KnownLatents, Latents

MULTISTEP = [name for name in SOLVERS if name != "euler"]
SPREAD, MEAN = 0.3, 1.5  # of the data: a Gaussian, whose velocity and paths are known
VIDEO_SHIFT, AUDIO_SHIFT = 2.0, 1.0
START = Latents(
    torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(1, 1, 3, 2, 2),
    torch.linspace(-1, 2, 5, dtype=torch.float64).reshape(1, 1, 5),
)


def steps(count: int, video_shift: float = VIDEO_SHIFT, audio_shift: float = AUDIO_SHIFT) -> list[Step]:
    """Sigmas exactly on the shifted curve: the released table would snap them."""

    def track(index: int, shift: float) -> TrackStep:
        now, after = (shift * (1 - i / count) / (1 + (shift - 1) * (1 - i / count)) for i in (index, index + 1))
        return TrackStep(1000 * now, now, after)

    return [Step(i, count, track(i, video_shift), track(i, audio_shift)) for i in range(count)]


def gaussian_velocity(x: Tensor, sigma: float) -> Tensor:
    variance = ((1 - sigma) * SPREAD) ** 2 + sigma**2
    return (sigma - (1 - sigma) * SPREAD**2) / variance * (x - (1 - sigma) * MEAN) - MEAN


def gaussian(step: Step, now: Latents, asked: Sequence[Evaluation]) -> list[Latents]:
    return [
        Latents(gaussian_velocity(now.video, step.video.sigma), gaussian_velocity(now.audio, step.audio.sigma))
        for _ in asked
    ]


def end(start: Tensor) -> Tensor:
    return MEAN + SPREAD * start


def solved(name: str, count: int, **more: object) -> Latents:
    plan = steps(count)
    return sample(gaussian, START, plan, [Guidance()] * count, solver=PairSolver(name), **more)  # type: ignore[arg-type]


def error(made: Tensor, exact: Tensor) -> float:
    return float((made - exact).abs().max())


@pytest.mark.parametrize(("name", "order"), [("euler", 1.0), ("ab2", 2.0), ("dpmpp_2m", 1.8), ("unipc", 2.0)])
@pytest.mark.parametrize("track", ["video", "audio"])
def test_the_error_falls_with_the_solvers_order(name: str, order: float, track: str) -> None:
    """DPM-Solver++(2M) comes near its 2 slowly: log-SNR, its clock, is infinite at both ends of the way."""
    few, many = (error(getattr(solved(name, n), track), end(getattr(START, track))) for n in (160, 640))
    assert math.log(few / many, 4) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", MULTISTEP)
def test_second_order_beats_euler_at_the_same_number_of_forwards(name: str) -> None:
    for track in ("video", "audio"):
        exact = end(getattr(START, track))
        assert error(getattr(solved(name, 20), track), exact) < 0.6 * error(getattr(solved("euler", 20), track), exact)


@pytest.mark.parametrize("name", MULTISTEP)
def test_the_first_step_is_eulers(name: str) -> None:
    step = steps(10)[0]
    (velocity,) = gaussian(step, START, [Evaluation.PROMPT])
    made, plain = (PairSolver(solver).advance(START, velocity, step) for solver in (name, "euler"))
    assert torch.allclose(made.video, plain.video, rtol=0, atol=1e-14)
    assert torch.allclose(made.audio, plain.audio, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_straight_paths_are_exact_at_any_number_of_steps(name: str, count: int) -> None:
    data = Latents(torch.full_like(START.video, 0.7), torch.full_like(START.audio, -0.4))
    straight = Latents(START.video - data.video, START.audio - data.audio)
    made = sample(
        lambda step, now, asked: [straight for _ in asked],
        START,
        steps(count),
        [Guidance()] * count,
        solver=PairSolver(name),
    )
    assert torch.allclose(made.video, data.video, atol=1e-12)
    assert torch.allclose(made.audio, data.audio, atol=1e-12)


def test_each_track_is_integrated_as_if_the_other_were_not_there() -> None:
    for name in MULTISTEP:
        both = solved(name, 12)
        swapped = sample(gaussian, START, steps(12, VIDEO_SHIFT, 4.0), [Guidance()] * 12, solver=PairSolver(name))
        assert torch.equal(both.video, swapped.video)
        assert not torch.equal(both.audio, swapped.audio)


def test_unipc_by_hand_over_three_steps() -> None:
    """Against UniPC's published formulas (order 2, B₂, data prediction), written out with their own symbols."""
    plan = [TrackStep(0, 0.9, 0.7), TrackStep(0, 0.7, 0.4), TrackStep(0, 0.4, 0.2)]
    solver = SOLVERS["unipc"]()
    x, made = START.audio, []
    for track in plan:
        x = solver.advance(x, gaussian_velocity(x, track.sigma), track)
        made.append(x)
    lam = {s: math.log((1 - s) / s) for s in (0.9, 0.7, 0.4, 0.2)}

    def data(x: Tensor, s: float) -> Tensor:
        return x - s * gaussian_velocity(x, s)

    def update(x: Tensor, s0: float, s1: float, mean: Tensor) -> Tensor:
        return s1 / s0 * x - (1 - s1) * math.expm1(-(lam[s1] - lam[s0])) * mean

    def exact_weights(s0: float, s1: float) -> tuple[float, float]:
        hh = lam[s0] - lam[s1]
        b_h = math.expm1(hh)
        phi_2 = b_h / hh - 1
        return phi_2 / b_h, 2 * (phi_2 / hh - 0.5) / b_h

    d0 = data(START.audio, 0.9)
    x1 = update(START.audio, 0.9, 0.7, d0)
    assert torch.allclose(made[0], x1, rtol=0, atol=1e-12)
    d1 = data(x1, 0.7)
    b1, _ = exact_weights(0.9, 0.7)
    x1 = update(START.audio, 0.9, 0.7, d0 + b1 * (d1 - d0))
    r = (lam[0.9] - lam[0.7]) / (lam[0.4] - lam[0.7])
    x2 = update(x1, 0.7, 0.4, d1 + 0.5 * (d0 - d1) / r)
    assert torch.allclose(made[1], x2, rtol=0, atol=1e-12)
    d2 = data(x2, 0.4)
    b1, b2 = exact_weights(0.7, 0.4)
    matrix = torch.tensor([[1.0, 1.0], [r, 1.0]], dtype=torch.float64)
    rho = torch.linalg.solve(matrix, torch.tensor([b1, b2], dtype=torch.float64)).tolist()
    x2 = update(x1, 0.7, 0.4, d1 + rho[0] * (d0 - d1) / r + rho[1] * (d2 - d1))
    r = (lam[0.7] - lam[0.4]) / (lam[0.2] - lam[0.4])
    x3 = update(x2, 0.4, 0.2, d2 + 0.5 * (d1 - d2) / r)
    assert torch.allclose(made[2], x3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MULTISTEP)
def test_a_track_held_whole_stays_as_it_is_and_leaves_the_other_its_order(name: str) -> None:
    held = KnownLatents(torch.full_like(START.video, 0.25), torch.ones(3, dtype=torch.bool))

    def made(count: int) -> Latents:
        plan = clean_where_known(steps(count), held, None)
        return sample(gaussian, START, plan, [Guidance()] * count, known_video=held, solver=PairSolver(name))

    assert torch.equal(made(7).video, held.clean)
    assert torch.equal(made(7).audio, solved(name, 7).audio)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_prefix_held_in_part_ends_exact_and_does_not_touch_the_rest(name: str) -> None:
    held = KnownLatents(torch.full_like(START.audio, 0.25), torch.tensor([True, True, False, False, False]))
    made = solved(name, 9, known_audio=held).audio
    assert torch.equal(made[..., :2], held.clean[..., :2])
    assert torch.allclose(made[..., 2:], solved(name, 9).audio[..., 2:], rtol=0, atol=1e-12)


def jumping(at: float) -> Callable[..., list[Latents]]:
    """Another Gaussian's velocity from a sigma down: two experts that disagree where they meet."""

    def velocity(step: Step, now: Latents, asked: Sequence[Evaluation]) -> list[Latents]:
        (before,) = gaussian(step, now, [Evaluation.PROMPT])
        video, audio = (1.0 if track.sigma <= at else 0.0 for track in (step.video, step.audio))
        return [Latents(before.video + video, before.audio + audio) for _ in asked]

    return velocity


@pytest.mark.parametrize("name", ["ab2", "unipc"])
def test_starting_anew_at_the_expert_switch_keeps_the_order(name: str) -> None:
    def made(count: int, solver: str, told: bool) -> Tensor:
        plan = steps(count, audio_shift=1.0)
        phases = ["high" if step.audio.sigma > 0.5 else "low" for step in plan]
        guidance = [Guidance()] * count
        out = sample(jumping(0.5), START, plan, guidance, solver=PairSolver(solver), phases=phases if told else None)
        return out.audio

    exact = made(2048, "ab2", True)
    told, untold = ([error(made(n, name, tell), exact) for n in (32, 128)] for tell in (True, False))
    assert math.log(told[0] / told[1], 4) > 1.6
    assert told[1] < 0.3 * untold[1]


@pytest.mark.parametrize("name", MULTISTEP)
def test_starting_anew_where_guidance_ends(name: str) -> None:
    """The last guided velocity must not be carried over into the unguided steps."""
    plan = steps(8)
    guidance = [Guidance(4, 4) if i < 4 else Guidance() for i in range(8)]

    def velocity(step: Step, now: Latents, asked: Sequence[Evaluation]) -> list[Latents]:
        shift = {Evaluation.PROMPT: 0.0, Evaluation.NEGATIVE: 3.0}
        (base,) = gaussian(step, now, [Evaluation.PROMPT])
        return [Latents(base.video + shift[e], base.audio + shift[e]) for e in asked]

    states: list[Latents] = []
    sample(
        velocity,
        START,
        plan,
        guidance,
        solver=PairSolver(name),
        on_step=lambda step, now: (states.append(now), (now, False))[1],
    )
    anew = sample(velocity, states[3], plan[4:], guidance[4:], solver=PairSolver(name))
    assert torch.equal(states[-1].audio, anew.audio)


@pytest.mark.parametrize("name", MULTISTEP)
@pytest.mark.parametrize("in_place", [True, False])
def test_a_callback_that_changes_latents_starts_the_solver_anew(name: str, in_place: bool) -> None:
    plan, guidance = steps(6), [Guidance()] * 6
    changed: list[Latents] = []

    def on_step(step: Step, now: Latents) -> tuple[Latents, bool]:
        if step.index == 2:
            now = Latents(now.video.mul_(0.5), now.audio) if in_place else Latents(now.video * 0.5, now.audio)
            changed.append(Latents(now.video.clone(), now.audio.clone()))
        return now, False

    made = sample(gaussian, START, plan, guidance, solver=PairSolver(name), on_step=on_step)
    anew = sample(gaussian, changed[0], plan[3:], guidance[3:], solver=PairSolver(name))
    assert torch.equal(made.video, anew.video)
    assert torch.equal(made.audio, anew.audio)


@pytest.mark.parametrize("name", MULTISTEP)
def test_a_callback_that_only_looks_changes_nothing(name: str) -> None:
    looked = solved(name, 6, on_step=lambda step, now: (now, False))
    assert torch.equal(looked.video, solved(name, 6).video)


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_of_no_length_change_nothing(name: str) -> None:
    plan = steps(6)
    still = TrackStep(plan[3].audio.timestep, plan[3].audio.sigma, plan[3].audio.sigma)
    twice = [*plan[:3], Step(3, 7, still, still), *plan[3:]]
    made = sample(gaussian, START, twice, [Guidance()] * 7, solver=PairSolver(name))
    assert torch.isfinite(made.video).all()
    assert torch.equal(made.audio, solved(name, 6).audio)


def test_an_unknown_solver_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="solver 'heun' is unknown; use one of euler, ab2, dpmpp_2m, unipc"):
        PairSolver("heun")
