"""The sampling loop: from noise to two clean latents. It takes a callable for the velocities and knows no model.

A track may be given. Known whole, it is clean at its own timestep 0 from the first step to the last: the modalities were
trained with independent timesteps, so the model knows that state. KnownLatents in part (a prefix, or all but a stretch), the
known part is put back before every step, noised to the step's sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from phonofilm.pipeline.guidance import Evaluation, Guidance, guided
from phonofilm.pipeline.schedule import Step, TrackStep
from phonofilm.pipeline.solvers import PairSolver
from phonofilm.pipeline.types import Known, KnownLatents, Latents

Velocity = Callable[[Step, Latents, Sequence[Evaluation]], Sequence[Latents]]
OnStep = Callable[[Step, Latents], tuple[Latents, bool]]
CLEAN = TrackStep(timestep=0.0, sigma=0.0, sigma_next=0.0)


def sample(
    velocity: Velocity,
    noise: Latents,
    steps: Sequence[Step],
    guidance: Sequence[Guidance],
    *,
    known_video: KnownLatents | None = None,
    known_audio: KnownLatents | None = None,
    solver: PairSolver | None = None,
    phases: Sequence[object] | None = None,
    on_step: OnStep | None = None,
) -> Latents:
    """Integrate both latents from `noise` to sigma 0.

    The solver starts anew where its memory would mislead it: where the phase or the evaluations change, since another
    model or another guidance is another velocity; and where `on_step` gave other latents than it was given.

    Args:
        velocity: gives both velocities for a step and the latents, once for each way of running the model.
        noise: start latents, float32; they stay float32 between steps.
        steps, guidance: one entry per step; the steps as `clean_where_known` leaves them.
        known_video, known_audio: what is given of a track.
        solver: a new one for this run; Euler's by default.
        phases: one entry per step, which changes where another model takes over.
        on_step: called after every step; returns the latents to go on with, and whether to stop here.
    """
    solver = PairSolver() if solver is None else solver
    latents, last = noise, None
    some_known = known_video is not None or known_audio is not None
    for position, (step, scales) in enumerate(zip(steps, guidance, strict=True)):
        if some_known:
            latents = _with_known(latents, noise, known_video, known_audio, step.video.sigma, step.audio.sigma)
        field = (scales.evaluations, None if phases is None else phases[position])
        if last is not None and field != last:
            solver.restart()
        last = field
        pushed = guided(partial(velocity, step, latents), scales)
        latents = solver.advance(latents, pushed, step)
        if on_step is not None:
            before = _identity(latents)
            latents, stop = on_step(step, latents)
            if stop:
                return latents
            if _identity(latents) != before:
                solver.restart()
    return _with_known(latents, noise, known_video, known_audio, 0.0, 0.0) if some_known else latents


def clean_where_known(steps: Sequence[Step], video: Known | None, audio: Known | None) -> list[Step]:
    """The steps, with a track that is held whole clean at all of them."""
    whole = {"video": video is not None and video.whole, "audio": audio is not None and audio.whole}
    return [
        replace(step, video=CLEAN if whole["video"] else step.video, audio=CLEAN if whole["audio"] else step.audio)
        for step in steps
    ]


def _identity(latents: Latents) -> tuple[object, ...]:
    """Changes when other tensors take the place of these, or their contents change in place (which torch counts)."""
    return tuple((id(t), 0 if t.is_inference() else t._version) for t in (latents.video, latents.audio))


def _with_known(
    latents: Latents,
    noise: Latents,
    video: KnownLatents | None,
    audio: KnownLatents | None,
    video_sigma: float,
    audio_sigma: float,
) -> Latents:
    """The latents with what is given of each track put back, noised to its sigma."""
    return Latents(
        latents.video if video is None else video.put_back(latents.video, noise.video, video_sigma),
        latents.audio if audio is None else audio.put_back(latents.audio, noise.audio, audio_sigma),
    )
