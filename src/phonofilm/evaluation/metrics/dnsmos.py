"""DNSMOS: the mean opinion score that a network predicts for speech, from the sound alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import CheckpointError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.onset_envelope import frame_powers, level_db, mel_bank
from phonofilm.evaluation.requirements import Package, Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable

if TYPE_CHECKING:
    from phonofilm.evaluation.networks.p835 import P835

RATE = 16_000
WINDOW_SECONDS = 9.01
WINDOW = int(WINDOW_SECONDS * RATE)
SIZE, HOP, BANDS = 321, 160, 120
STEPS = RATE // HOP  # frames in a second
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
    version = 2
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
        doubled = _long_enough(wave)
        seconds = _window_seconds(len(doubled))
        p808 = [float(self._p808.run(None, {"input_1": mel})[0][0][0]) for mel in _features(doubled, seconds)]
        raw = self._p835_of(doubled, seconds)
        values = {"p808": float(np.mean(p808))}
        for column, (name, curve) in enumerate(CURVES.items()):
            values[name] = float(np.polyval(curve, raw[:, column]).mean())
        return measured(values, {"windows": len(seconds), "doubled": len(wave) < WINDOW})

    def _p835_of(self, wave: NDArray[np.float32], seconds: list[int]) -> NDArray[np.float32]:
        import torch

        scores: NDArray[np.float32] = self._p835.score(torch.from_numpy(wave), seconds).numpy()
        return scores

    @cached_property
    def _p808(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = _file_of_speechmos("model_v8.onnx")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _p835(self) -> P835:
        from phonofilm.evaluation.networks.onnx_tensors import read_onnx_floats
        from phonofilm.evaluation.networks.p835 import P835

        return P835(read_onnx_floats(_file_of_speechmos("sig_bak_ovr.onnx")))


def _long_enough(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The wave, doubled until it has a window."""
    while len(wave) < WINDOW:
        wave = np.append(wave, wave)
    return wave


def _window_seconds(samples: int) -> list[int]:
    """Where windows begin: at every second, but for those whose end, in the original's floating point, falls one short."""
    hops = int(np.floor(samples / RATE) - WINDOW_SECONDS) + 1
    ends = {hop: int((hop + WINDOW_SECONDS) * RATE) for hop in range(hops)}
    return [hop for hop, end in ends.items() if min(end, samples) - hop * RATE == WINDOW]


def _features(wave: NDArray[np.float32], seconds: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """[samples] -> for each window [1, 900, 120]: mel levels relative to the loudest, in units of 40 dB.

    Windows share the seconds that lie in both. The first and the last frame of a window reach beyond it, where it is silent.
    """
    bank = mel_bank(RATE, SIZE, BANDS)
    frames = _frames(wave)
    shared: dict[int, NDArray[np.float32]] = {}
    for second in seconds:
        reached = range(second, second + WINDOW // RATE)
        shared = {one: shared[one] if one in shared else frame_powers(frames[one * STEPS :][:STEPS]) for one in reached}
        powers = np.concatenate(list(shared.values()))
        powers[[0, -1]] = frame_powers(_frames(wave[second * RATE :][: WINDOW - HOP])[[0, -1]])
        mel = bank @ powers.T
        yield ((level_db(mel, float(mel.max())) + 40) / 40).T[None].astype(np.float32)


def _frames(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """[samples] -> a view [frames, 321] around every 160th sample, with zeros beyond the ends."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(wave, SIZE // 2), SIZE)[::HOP]


def _file_of_speechmos(file: str) -> Path:
    spec = importlib.util.find_spec("speechmos")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    path = next((path for folder in folders if (path := Path(folder) / "dnsmos_models" / file).is_file()), None)
    if path is None:
        raise CheckpointError(f"the package speechmos has no {file}; reinstall it: pip install 'phonofilm[evaluate]'")
    return path
