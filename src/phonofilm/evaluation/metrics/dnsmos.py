"""DNSMOS: the mean opinion score that a network predicts for speech, from the sound alone."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import CheckpointError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.onset_envelope import level_db, slaney_mel
from phonofilm.evaluation.requirements import Package, Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable

RATE = 16_000
WINDOW_SECONDS = 9.01
SIZE, HOP, BANDS = 321, 160, 120
SILENT_PEAK = 1e-3  # -60 dB of full scale: the network gives silence 2.15, more than noise
# From the network's raw figures to opinion scores: squared, linear, constant.
CURVES = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class Dnsmos(Metric):
    """The P.808 score, as published, with P.835's three beside it: means over windows of 9.01 s, one every second.

    A shorter track is doubled until it is long enough, with its splices. fixed: clips whose prompt has nothing said in it
    are left out, because the network rates speech.
    """

    name = "dnsmos"
    title = "DNSMOS"
    figures = (
        Figure("p808", "DNSMOS", "MOS", "higher", paper="DNSMOS"),
        Figure("sig", "P.835 signal", "MOS", "higher"),
        Figure("bak", "P.835 background", "MOS", "higher"),
        Figure("ovrl", "P.835 overall", "MOS", "higher"),
    )
    source = "DNSMOS P.808 (arXiv 2010.15258) and P.835 (arXiv 2110.01763)"

    @property
    def needs(self) -> Requirements:
        return Requirements((Package("onnxruntime", "evaluate"), Package("speechmos", "evaluate")), sound=True)

    @property
    def notes(self) -> tuple[str, ...]:
        return ("rates speech: of music and noises it says nothing; the paper quotes it on set3 alone",)

    def measure(self, clip: ClipFacts) -> Row:
        if self.setup.profile == "fixed" and clip.item is not None and not clip.item.speech:
            return not_applicable("the prompt has nothing said in it")
        wave = clip.extracted(RATE, "s16")[0].astype(np.float32) / np.float32(32768)
        if np.abs(wave).max(initial=0.0) < SILENT_PEAK:
            return not_applicable("the sound is silent")
        windows = _windows(wave)
        p808 = [float(self._p808.run(None, {"input_1": _features(window)})[0][0][0]) for window in windows]
        raw = np.array([self._p835.run(None, {"input_1": window[None]})[0][0] for window in windows])
        values = {"p808": float(np.mean(p808))}
        for column, (name, curve) in enumerate(CURVES.items()):
            values[name] = float(np.polyval(curve, raw[:, column]).mean())
        return measured(values, {"windows": len(windows), "doubled": len(wave) < int(WINDOW_SECONDS * RATE)})

    @cached_property
    def _p808(self) -> Any:
        return _session("model_v8.onnx")

    @cached_property
    def _p835(self) -> Any:
        return _session("sig_bak_ovr.onnx")


def _windows(wave: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Stretches of 9.01 s, one every second, of a wave that is at least that long or else doubled until it is."""
    size = int(WINDOW_SECONDS * RATE)
    while len(wave) < size:
        wave = np.append(wave, wave)
    hops = int(np.floor(len(wave) / RATE) - WINDOW_SECONDS) + 1
    cut = [wave[hop * RATE : int((hop + WINDOW_SECONDS) * RATE)] for hop in range(hops)]
    return [window for window in cut if len(window) == size]


def _features(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """[samples] -> [1, frames, 120]: mel levels relative to the loudest, in units of 40 dB."""
    mel = slaney_mel(window[:-HOP], RATE, SIZE, HOP, BANDS)
    result: NDArray[np.float32] = ((level_db(mel, float(mel.max())) + 40) / 40).T[None].astype(np.float32)
    return result


def _session(file: str) -> Any:
    import onnxruntime

    spec = importlib.util.find_spec("speechmos")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    path = next((path for folder in folders if (path := Path(folder) / "dnsmos_models" / file).is_file()), None)
    if path is None:
        raise CheckpointError(f"the package speechmos has no {file}; reinstall it: pip install 'phonofilm[evaluate]'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
