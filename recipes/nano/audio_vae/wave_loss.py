"""What the audio VAE's training minimises: distances between spectra at several resolutions, and between waveforms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phonofilm.evaluation.audio_distances import mel_filters, stft_magnitude

# From 64 ms, which separates neighbouring pitches, to 4 ms, which places an onset.
WINDOWS = (1024, 512, 256, 128, 64)
MEL_WINDOWS = ((1024, 80), (512, 64), (256, 32))


@dataclass(frozen=True)
class WaveLoss:
    """`spectral`, `mel` and `wave` (mean absolute difference), each a scalar."""

    spectral: Tensor
    mel: Tensor
    wave: Tensor


def wave_loss(reference: Tensor, estimate: Tensor, sampling_rate: int, quiet: float) -> WaveLoss:
    """Distances of `estimate` from `reference`, both [b, 1, t]; the logarithms ignore magnitudes far below `quiet`.

    `spectral`: over the windows, the mean of |log difference| plus the relative linear difference (spectral
    convergence). `mel`: the same |log difference| on mel bands, where noise is compared by its level, not bin by bin.
    """
    spectral, mel = [], []
    banks = dict(MEL_WINDOWS)
    for window in WINDOWS:
        theirs = stft_magnitude(reference, window, window // 4)
        ours = stft_magnitude(estimate, window, window // 4)
        convergence = (theirs - ours).norm() / (theirs.norm() + 1e-6)
        spectral.append(log_difference(theirs, ours, quiet) + convergence)
        if window in banks:
            filters = mel_filters(sampling_rate, window, banks[window]).to(reference)
            bands = [(filters @ magnitude.square()).clamp_min(1e-14).sqrt() for magnitude in (theirs, ours)]
            mel.append(log_difference(bands[0], bands[1], quiet))
    return WaveLoss(
        spectral=torch.stack(spectral).mean(),
        mel=torch.stack(mel).mean(),
        wave=(reference - estimate).abs().mean(),
    )


def log_difference(reference: Tensor, estimate: Tensor, quiet: float) -> Tensor:
    """Mean absolute difference of two magnitudes' natural logarithms, each raised by `quiet`."""
    return ((reference + quiet).log() - (estimate + quiet).log()).abs().mean()
