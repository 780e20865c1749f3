"""How loud a clip is: root mean square, loudness, peak. Neither way is better; a target band belongs to the use."""

from __future__ import annotations

import numpy as np

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.loudness import STANDARD, cookbook_filters, integrated_loudness
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable

RATE = 48_000
PART = 2**20  # samples that are squared at a time
SILENT_PEAK = 1e-5  # -100 dB of full scale


class Amplitude(Metric):
    """RMS over the whole track at 48 kHz, and integrated loudness.

    compat: of the mean of the channels, loudness with pyloudnorm's filters. fixed: of all channels, the largest peak of one,
    loudness with BS.1770-4's own filters, channels summed as it says.
    """

    name = "amplitude"
    title = "Amplitude and loudness"
    version = 2
    figures = (
        Figure("rms_dbfs", "RMS", "dBFS"),
        Figure("lufs", "Loudness", "LUFS"),
        Figure("rms", "RMS, linear", "of full scale"),
        Figure("peak_dbfs", "Peak", "dBFS"),
    )
    source = "root mean square; ITU-R BS.1770-4"

    @property
    def needs(self) -> Requirements:
        return Requirements(sound=True)

    def measure(self, clip: ClipFacts) -> Row:
        delay = max(0, round(clip.sound_delay * RATE))
        sound = clip.wave(RATE)[None] if self.setup.profile == "compat" else clip.channels(RATE)
        wave = np.pad(sound, ((0, 0), (delay, 0)))
        peak = float(max(wave.max(initial=0.0), -wave.min(initial=0.0)))
        if peak < SILENT_PEAK:
            mixed = self.setup.profile == "compat" and len(clip.sound[0]) > 1
            return not_applicable(f"the {'mean of the channels' if mixed else 'sound'} is silent")
        parts = (wave[:, first : first + PART].astype(np.float64) for first in range(0, wave.shape[1], PART))
        rms = float(np.sqrt(sum(float((part * part).sum()) for part in parts) / wave.size))
        values = {"rms_dbfs": 20 * np.log10(rms), "rms": rms, "peak_dbfs": 20 * np.log10(peak)}
        lufs = self._loudness(clip, wave)
        detail = {"seconds": wave.shape[1] / RATE}
        if lufs is not None:
            return measured({**values, "lufs": lufs}, detail)
        return measured(values, {**detail, "lufs": "shorter than 0.4 s, or below -70 LUFS throughout"})

    def _loudness(self, clip: ClipFacts, wave: np.ndarray) -> float | None:
        if self.setup.profile == "compat":
            return integrated_loudness(wave, RATE, cookbook_filters(RATE))
        return integrated_loudness(clip.channels(RATE), RATE, STANDARD)
