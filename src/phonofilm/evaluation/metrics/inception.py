"""The inception score of sound: how distinct each clip's classes are, and how different the clips are from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import MediaError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.published_files import CNN14
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.weights import find_weights

if TYPE_CHECKING:
    from torch import Tensor

    from phonofilm.evaluation.networks.cnn14 import Cnn14

RATE = 32_000
COMPAT_SAMPLES = 10 * RATE
SHORTEST_SAMPLES = RATE // 2
SILENT_PEAK = 1e-5
_EPS_CHANCE = 1e-8
_EPS_LOG = 1e-10


class Inception(Metric):
    """exp of the mean divergence of a clip's classes from those of all clips, over AudioSet's 527 classes (Cnn14).

    One number per set: a clip alone has none. compat: every clip padded with silence, or cut, to 10 s. fixed: each at its
    own length, and logits as the network gives them. Small sets score lower: compare sets of the same size only.
    """

    name = "inception"
    title = "Inception score of sound"
    version = 2
    figures = (Figure("is", "IS", better="higher", chance=1.0, paper="IS"),)
    source = "Salimans et al., 2016, with PANNs' Cnn14 (Kong et al., 2020) as MOVA's evaluation code computes it"

    @property
    def needs(self) -> Requirements:
        return Requirements(weights=(CNN14,), sound=True)

    @property
    def notes(self) -> tuple[str, ...]:
        return ("depends on the number of clips: compare sets of the same size only",)

    @cached_property
    def network(self) -> Cnn14:
        from phonofilm.evaluation.networks.cnn14 import Cnn14
        from phonofilm.evaluation.networks.published import load_network, read_published

        file = find_weights(CNN14, self.setup.weights)
        return load_network(Cnn14, read_published(file, "model"), file, self.setup.device)

    def measure(self, clip: ClipFacts) -> Row:
        wave = stereo_mean(clip, RATE)
        if np.abs(wave).max(initial=0.0) < SILENT_PEAK:
            return not_applicable("the sound is silent")
        if len(wave) < SHORTEST_SAMPLES:
            return not_applicable(f"the sound is {len(wave) / RATE:.2f} s long; at least 0.5 s are needed")
        shares = self._class_shares(wave)
        if not np.isfinite(shares).all():
            raise MediaError("the network's answer is not finite")
        order = np.argsort(-shares)[:3]
        detail = {"classes": {int(index): round(float(shares[index]), 4) for index in order}}
        return measured({}, detail, {"class_shares": shares.tolist()})

    def aggregate(self, rows: Sequence[Row]) -> Mapping[str, float]:
        return {"is": inception_score(np.array([row.series["class_shares"] for row in rows], dtype=np.float32))}

    def _class_shares(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """[527], which sum to 1."""
        import torch

        compat = self.setup.profile == "compat"
        if compat:
            wave = np.pad(wave[:COMPAT_SAMPLES], (0, max(0, COMPAT_SAMPLES - len(wave))))
        with torch.inference_mode():
            sound = torch.from_numpy(np.ascontiguousarray(wave))[None].to(self.setup.device)
            logits = _logits_of(self.network(sound)) if compat else self.network.logits(sound)
            return logits.softmax(-1)[0].cpu().numpy()


def _logits_of(chances: Tensor) -> Tensor:
    """The network's sigmoid undone, as the original does it."""
    bounded = chances.clamp(_EPS_CHANCE, 1 - _EPS_CHANCE)
    return bounded.log() - (1 - bounded).log()


def inception_score(shares: NDArray[np.floating]) -> float:
    """[clips, classes], each row summing to 1 -> from 1 (all clips alike, or undecided) to the number of classes."""
    shares = shares / shares.sum(axis=1, keepdims=True)
    overall = shares.mean(axis=0, keepdims=True)
    divergence = (shares * (np.log(shares + _EPS_LOG) - np.log(overall + _EPS_LOG))).sum(axis=1)
    return math.exp(float(divergence.mean()))


def stereo_mean(clip: ClipFacts, rate: int) -> NDArray[np.float32]:
    """[samples]: what ffmpeg extracts as 16-bit stereo, averaged: how the original hears a clip."""
    stereo = clip.extracted(rate, "s16", "stereo").astype(np.float32) / 32768
    mono: NDArray[np.float32] = stereo.mean(axis=0, dtype=np.float32)
    return mono
