"""Who speaks when: stretches of speech as points in a space of voices, gathered into speakers. No words here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import CheckpointError
from phonofilm.evaluation.networks.published import load_network, read_published
from phonofilm.evaluation.networks.speaker_encoder import BANDS, WINDOW_STEPS, SpeakerEncoder
from phonofilm.evaluation.onset_envelope import slaney_mel

RATE = 16_000
SIZE, HOP = 400, 160
LEVEL = 10 ** (-30 / 20)  # root mean square that quieter stretches are raised to
APART = 0.32  # cosine distance, on average, above which two groups are two speakers
PACKAGE, FILE = "resemblyzer", "pretrained.pt"


class VoiceReader:
    """The speaker encoder that the package resemblyzer ships, in a network of ours; the package itself is not imported."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec(PACKAGE)
        folders = [] if spec is None else list(spec.submodule_search_locations or ())
        path = next((path for folder in folders if (path := Path(folder) / FILE).is_file()), None)
        if path is None:
            raise CheckpointError(f"there is no {FILE} of {PACKAGE}; pip install 'phonofilm[evaluate-asr]'")
        self._network = load_network(SpeakerEncoder, read_published(path, "model_state"), path)

    def read(self, wave: NDArray[np.float32]) -> NDArray[np.float64]:
        """[samples] at 16 kHz -> [256] of length 1: the mean over windows of 1.6 s, each half over the one before."""
        import torch

        level = float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))
        wave = wave * np.float32(max(1.0, LEVEL / max(level, 1e-6)))
        mels = slaney_mel(wave, RATE, SIZE, HOP, BANDS).T
        mels = np.pad(mels, ((0, max(0, WINDOW_STEPS - len(mels))), (0, 0)))
        starts = [*range(0, len(mels) - WINDOW_STEPS, WINDOW_STEPS // 2), len(mels) - WINDOW_STEPS]
        windows = np.stack([mels[start : start + WINDOW_STEPS] for start in starts])
        with torch.inference_mode():
            mean = self._network(torch.from_numpy(windows)).double().mean(0).numpy()
        result: NDArray[np.float64] = mean / np.linalg.norm(mean)
        return result


def tell_apart(voices: NDArray[np.float64]) -> list[int]:
    """[n, 256] -> each one's speaker, numbered from 0 in the order in which they first speak.

    The two groups that are nearest on average are joined, until none are within 0.32 of each other.
    """
    distance = 1 - voices @ voices.T
    groups = [[index] for index in range(len(voices))]
    while len(groups) > 1:
        pairs = [(a, b) for b in range(len(groups)) for a in range(b)]
        apart = [float(distance[np.ix_(groups[a], groups[b])].mean()) for a, b in pairs]
        nearest = int(np.argmin(apart))
        if apart[nearest] > APART:
            break
        first, second = pairs[nearest]
        groups[first] += groups.pop(second)
    ordered = sorted(groups, key=min)
    return [next(number for number, group in enumerate(ordered) if index in group) for index in range(len(voices))]
