"""AV-Align: how many peaks of motion and of onset strength coincide, as intersection over union; with its chance level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.flow import mean_magnitudes
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.onset_envelope import HOP, onset_envelope, onset_peaks
from phonofilm.evaluation.requirements import Package, Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable

RATE = 44_100
SMALLEST_MOTION = 0.1  # pixels on average: smaller peaks are noise of the flow
CHANCE_DRAWS = 500
SHORTEST = 4  # frames: below, no peak of motion has a neighbour on either side
SILENT_PEAK = 1e-4


class AvAlign(Metric):
    """Peaks of the flow's mean magnitude against onsets, within one frame, over all peaks and onsets.

    compat: MOVA's variant (the sound from its own first sample, frames as if they came evenly, motion stamped at the later of
    two frames, 0 for a clip that has peaks of one kind only). fixed: both on the picture's clock, motion stamped between its
    two frames and by their distance in time, no figure where nothing could coincide.
    """

    name = "av_align"
    title = "AV-Align"
    version = 5
    figures = (
        Figure("av_align", "AV-Align", better="higher", chance="chance"),
        Figure("chance", "AV-Align of random onsets"),
        Figure("above_chance", "AV-Align above chance", better="higher", chance=0.0),
    )
    source = "TempoTokens (arXiv 2309.16429), in MOVA's variant"

    @property
    def needs(self) -> Requirements:
        return Requirements((Package("cv2", "evaluate"), Package("numba", "evaluate")), picture=True, sound=True)

    @property
    def notes(self) -> tuple[str, ...]:
        return ("close to chance on most clips: read it beside its chance level, never alone",)

    def measure(self, clip: ClipFacts) -> Row:
        compat = self.setup.profile == "compat"
        grey = clip.every_grey.frames
        if len(grey) < SHORTEST:
            return not_applicable(f"{len(grey)} frames are too few; {SHORTEST} are needed")
        wave = clip.extracted(RATE, "flt")[0] if compat else clip.aligned_wave(RATE)
        if np.abs(wave).max(initial=0.0) < SILENT_PEAK:
            return not_applicable("the sound is silent")
        if clip.is_still:
            return not_applicable("the picture never changes")
        steps = mean_magnitudes(grey)
        rate = float(clip.every_grey.average_rate)
        times, step, seconds = np.arange(len(grey)) / rate, 1 / rate, len(grey) / rate
        if not compat:
            times, step, steps = _on_its_clock(clip.every_grey.times, steps)
            seconds = float(clip.every_grey.times[-1]) + step
        motion = np.concatenate((steps[:1], steps))
        seen = times[motion_peaks(motion)]
        envelope = onset_envelope(wave, RATE)
        heard = onset_peaks(envelope, RATE)
        if not len(seen) and not len(heard):
            return not_applicable("there is neither a peak of motion nor an onset")
        if not compat and not (len(seen) and len(heard)):
            return not_applicable(f"there is no {'onset' if len(seen) else 'peak of motion'} that could coincide")
        score, matches = overlap(heard, seen, step)
        chance = chance_levels(len(heard), seen, seconds, step)
        return measured(
            {"av_align": score, "chance": float(chance.mean()), "above_chance": score - float(chance.mean())},
            {
                "matches": matches,
                "onsets": len(heard),
                "motion_peaks": len(seen),
                "chance_p95": float(np.quantile(chance, 0.95)),
                "mean_flow": float(motion.mean()),
            },
            {
                "motion": motion.tolist(),
                "onset_times": heard.tolist(),
                "motion_times": seen.tolist(),
                "onset_strength": envelope.tolist(),
                "onset_step": [HOP / RATE],
            },
        )


def _on_its_clock(
    times: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """When each frame's motion was, between it and the one before; the usual distance of two frames; steps [f - 1] of that long.

    Where a frame was left out the next one moves farther, which is no peak of motion.
    """
    apart = np.diff(times)
    usual = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    middles = np.concatenate((times[:1], (times[:-1] + times[1:]) / 2))
    return middles, usual, steps * np.divide(usual, apart, out=np.zeros_like(apart), where=apart > 0)


def motion_peaks(motion: NDArray[np.float64]) -> NDArray[np.int64]:
    """Frames that move more than both neighbours, and by at least a tenth of a pixel."""
    inner = motion[1:-1]
    return np.flatnonzero((inner > motion[:-2]) & (inner > motion[2:]) & (inner >= SMALLEST_MOTION)) + 1


def overlap(heard: Sequence[float] | NDArray[np.float64], seen: NDArray[np.float64], reach: float) -> tuple[float, int]:
    """Intersection over union, and the matches: each onset takes the first free peak less than `reach` seconds away.

    Both lists ascend, so that a peak too early for one onset is too early for all that follow.
    """
    peaks = seen.tolist()
    first = matches = 0
    for time in np.asarray(heard).tolist():
        while first < len(peaks) and time - peaks[first] >= reach:
            first += 1
        if first < len(peaks) and abs(time - peaks[first]) < reach:
            first += 1
            matches += 1
    union = len(heard) + len(seen) - matches
    return (matches / union if union else 0.0), matches


def chance_levels(onsets: int, seen: NDArray[np.float64], seconds: float, reach: float) -> NDArray[np.float64]:
    """The scores of 500 sets of as many onsets, placed anywhere in the clip with equal probability; the same every time."""
    draws = np.sort(np.random.default_rng(0).uniform(0.0, seconds, (CHANCE_DRAWS, onsets)), axis=1)
    return np.array([overlap(draw, seen, reach)[0] for draw in draws.tolist()])
