"""After the audio VAE's training: its latents standardised, its quality measured, its folder written. Nothing trains."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phonofilm.evaluation.audio_distances import signal_to_distortion, spectral_distance
from phonofilm.models.audio_vae import DAC

STATISTICS_CLIPS = 512


@dataclass(frozen=True)
class ReconstructionMetrics:
    """Means over clips of what the latents' mode decodes to: log-mel distance (evaluation.audio_distances) and SDR, in dB."""

    spectral_distance_db: float
    spectral_distance_p90_db: float
    sdr_db: float
    clips: int


@torch.no_grad()
def reconstruction_metrics(vae: DAC, clips: NDArray[np.float16]) -> ReconstructionMetrics:
    """Encode and decode every clip of [clips, samples] and compare; clips without sound are left out."""
    distances, ratios = [], []
    for clip in clips:
        wave = torch.from_numpy(clip.astype(np.float32))
        if not wave.any():
            continue
        decoded = vae.decode(vae.encode(wave[None, None].to(vae.device)).mode())[0, 0, : len(wave)].cpu()
        distances.append(spectral_distance(wave, decoded, vae.sampling_rate))
        ratios.append(signal_to_distortion(wave, decoded))
    return ReconstructionMetrics(
        spectral_distance_db=float(np.mean(distances)),
        spectral_distance_p90_db=float(np.quantile(distances, 0.9)),
        sdr_db=float(np.mean(ratios)),
        clips=len(distances),
    )


@torch.no_grad()
def latent_statistics(vae: DAC, clips: NDArray[np.float16]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [c] of the latents' mode over all positions of [clips, samples]."""
    modes = [vae.encode(torch.from_numpy(clip.astype(np.float32))[None, None].to(vae.device)).mode() for clip in clips]
    flat = torch.cat(modes, dim=-1)[0].double()
    return flat.mean(1).float(), flat.std(1).float()


@torch.no_grad()
def fold_standardisation(vae: DAC, mean: Tensor, deviation: Tensor) -> None:
    """Change the two pointwise convolutions around the latents so that z becomes (z - mean) / deviation, in place.

    Exact: the same waves are decoded from the standardised latents, and the posterior's variance scales along.
    """
    c = vae.latent_dim
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into.bias is not None
    assert out.bias is not None
    into.weight[:c] /= deviation[:, None, None]
    into.bias[:c] = (into.bias[:c] - mean) / deviation
    into.bias[c:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0] @ mean
    out.weight *= deviation[None, :, None]


def finish_audio_vae(
    vae: DAC, train: NDArray[np.float16], held_out: NDArray[np.float16], folder: Path
) -> ReconstructionMetrics:
    """Standardise the latents over training clips, save the diffusers folder, and write `metrics.json` into it."""
    mean, deviation = latent_statistics(vae, train[:STATISTICS_CLIPS])
    fold_standardisation(vae, mean, deviation)
    vae.save_pretrained(folder)
    metrics = reconstruction_metrics(vae, held_out)
    after_mean, after_deviation = latent_statistics(vae, held_out)
    report = dataclasses.asdict(metrics) | {
        "latent_mean_before": mean.tolist(),
        "latent_std_before": deviation.tolist(),
        "held_out_latent_mean": after_mean.tolist(),
        "held_out_latent_std": after_deviation.tolist(),
        "posterior_std": posterior_deviation(vae, held_out),
    }
    (folder / "metrics.json").write_text(json.dumps(report, indent=2))
    return metrics


@torch.no_grad()
def posterior_deviation(vae: DAC, clips: NDArray[np.float16]) -> list[float]:
    """[c] root mean square of the posterior's deviation: how much noise the decoder was trained to bear."""
    variances = [
        vae.encode(torch.from_numpy(clip.astype(np.float32))[None, None].to(vae.device)).logvar.exp()[0].mean(1)
        for clip in clips
    ]
    return torch.stack(variances).mean(0).sqrt().tolist()
