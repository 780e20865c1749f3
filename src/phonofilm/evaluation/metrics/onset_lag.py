"""Onset lag: by how much the sound comes after what visibly strikes, lands or stops, with a null from displaced sound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.flow import directograms
from phonofilm.evaluation.lag import GRID, SHORTEST_SECONDS, find_lag, on_grid
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.requirements import Package, Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.media.onsets import ONSET_HOP_SECONDS, SILENT_PEAK, onset_strength

RATE = 24_000
SIGNIFICANT = 0.01
# The third null cannot be as strict: a sound that is 8 % slower still fits its own picture somewhat.
WARPED_SIGNIFICANT = 0.03
CLEAREST_RIVAL = 0.8  # of the best lag's correlation: above, the events repeat and chance decides which lag is the best
# Frames per second. A hammer that falls for 0.15 s is seen in one or two frames at 12 or 16, and the end of its slower rise
# passes for the strike: 300 ms off.
LEAST_RATE = 20
BEGINNING = 0.1  # seconds: that sound and picture begin together is no event
SMOOTHING = 9  # taps of the Hann window over the onset strength


class OnsetLag(Metric):
    """The lag at which the picture's sudden slowing and the sound's onsets agree best, where they agree beyond chance.

    A proxy that works for percussive, sparse, visible events; it says nothing of speech or music. Both profiles are the same.
    """

    name = "onset_lag"
    title = "Onset lag (proxy)"
    version = 7
    figures = (
        Figure("lag_ms", "Sound after picture", "ms"),
        Figure("abs_lag_ms", "Lag either way", "ms", "lower"),
    )
    source = (
        "impact envelope: after Visual Rhythm and Beat (Davis and Agrawala 2018), 4.3; correlated with spectral flux"
    )

    @property
    def needs(self) -> Requirements:
        return Requirements((Package("cv2", "evaluate"),), picture=True, sound=True)

    @property
    def notes(self) -> tuple[str, ...]:
        return ("a proxy for clips with visible impacts; no substitute for DeSync or LSE",)

    def measure(self, clip: ClipFacts) -> Row:
        grey, rate = clip.plain_grey, float(clip.frame_rate)
        seconds = len(grey) / rate
        if seconds < SHORTEST_SECONDS:
            return not_applicable(
                f"{seconds:.2f} s are too short; {SHORTEST_SECONDS:g} s are needed to tell lag from chance"
            )
        if rate < LEAST_RATE:
            return not_applicable(
                f"{rate:g} frames per second do not show when something strikes; {LEAST_RATE} are needed"
            )
        wave = clip.aligned_wave(RATE).astype(np.float64)
        if np.abs(wave).max(initial=0.0) < SILENT_PEAK:
            return not_applicable("the sound is silent")
        if clip.is_still:
            return not_applicable("the picture never changes")
        moving = directograms(grey)
        impact = impacts_of(moving)
        strength = _smoothed(onset_strength(wave, RATE))
        strength[: round(BEGINNING / ONSET_HOP_SECONDS)] = 0.0
        impact[: round(BEGINNING * rate)] = 0.0
        grid_impact = on_grid((np.arange(len(impact)) + 1.0) / rate, impact, seconds)
        grid_strength = on_grid(np.arange(len(strength)) * ONSET_HOP_SECONDS, strength, seconds)
        lag = find_lag(grid_impact, grid_strength)
        detail = {
            "p": lag.p,
            "z": lag.z,
            "warped_p": lag.warped_p,
            "peak": lag.peak,
            "rival": lag.rival,
            "rival_ms": lag.rival_seconds * 1000,
        }
        series = {
            "impact": impact.tolist(),
            "onset_strength": np.round(grid_strength[:: GRID // 50], 4).tolist(),
            "lags": lag.lags[::4].tolist(),
            "correlation": lag.correlation[::4].tolist(),
        }
        if lag.p > SIGNIFICANT:
            return not_applicable("no detectable audio-visual events", detail, series)
        if lag.warped_p > WARPED_SIGNIFICANT:
            reason = "the sound fits as well where it is slower or faster, as another clip's does"
            return not_applicable(reason, detail, series)
        if lag.rival > CLEAREST_RIVAL:
            near, far = (f"{seconds * 1000:+.0f} ms" for seconds in (lag.seconds, lag.rival_seconds))
            reason = f"the events repeat: {far} agrees {lag.rival:.0%} as well as {near}, and either may be the lag"
            return not_applicable(reason, detail, series)
        late = lag.seconds * 1000
        return measured({"lag_ms": late, "abs_lag_ms": abs(late)}, detail, series)


def impacts_of(moving: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directograms [f - 1, 12] -> [f - 2]: how much motion stops at frame 1, 2, ..., over all directions."""
    result: NDArray[np.float64] = np.maximum(0.0, moving[:-1] - moving[1:]).sum(1)
    return result


def _smoothed(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    window = np.hanning(SMOOTHING + 2)[1:-1]
    return np.convolve(strength, window / window.sum(), "same")
