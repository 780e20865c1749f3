"""The audio VAE's second stage: its decoder goes on learning for the latents as they are, with the distance it is measured by.

The encoder is frozen, so latents that were made before, and towers that learnt on them, stay right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from phonofilm.evaluation.audio_distances import FLOOR_DB, mel_power
from phonofilm.models.audio_vae import DAC
from recipes.nano.audio_vae.finish import ReconstructionMetrics, reconstruction_metrics
from recipes.nano.audio_vae.sound_bank import Sound, SoundBank
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig, AudioVaeTrainer, shifted, sound_banks, train_to_end
from recipes.nano.audio_vae.wave_loss import wave_loss

AUDIO_DECODER = AudioVaeConfig(
    crop_hops=32,
    budget_seconds=3000.0,
    learning_rate=8e-4,
    wave_weight=1.0,
    kl_weight=0.0,
    distance_weight=0.15,
    first_quiet=2e-4,
    seed=77,
)


class AudioDecoderTrainer(AudioVaeTrainer):
    """As AudioVaeTrainer, from a trained network of which only the decoder's side learns. Its sizes are the network's."""

    def __init__(self, config: AudioVaeConfig, bank: SoundBank, device: torch.device, start: Path) -> None:
        self.start = start
        super().__init__(config, bank, device)

    def network(self) -> DAC:
        vae = DAC.from_pretrained(self.start)
        vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)
        vae.post_quant_conv.requires_grad_(True)
        result: DAC = vae
        return result

    def losses(self, wave: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            posterior = self.vae.encode(wave)
        noise = torch.randn(posterior.mean.shape, generator=generator).to(self.device)
        decoded = self.vae.decode(shifted(posterior, noise))
        loss = wave_loss(wave, decoded, self.config.sampling_rate, self.quiet())
        distance = audible_distance(wave, decoded, self.config.sampling_rate)
        return {"spectral": loss.spectral, "mel": loss.mel, "wave": loss.wave, "distance": distance}


def audible_distance(reference: Tensor, estimate: Tensor, sampling_rate: int) -> Tensor:
    """What `evaluation.audio_distances.spectral_distance` measures, in dB, over a batch of crops [b, 1, t], with a gradient."""
    cells = [10.0 * torch.log10(mel_power(wave[:, 0], sampling_rate)) for wave in (reference, estimate)]
    floor = cells[0].amax((-1, -2), keepdim=True) + FLOOR_DB
    theirs, ours = (torch.maximum(cell, floor) for cell in cells)
    audible = ((theirs > floor) | (ours > floor)).to(theirs.dtype)
    return ((theirs - ours).abs() * audible).sum() / audible.sum().clamp_min(1.0)


def train_audio_decoder(
    config: AudioVaeConfig,
    start: Path,
    run_dir: Path,
    *,
    device: torch.device | str = "cpu",
    make_sound: Callable[[int], Sound] | None = None,
) -> ReconstructionMetrics:
    """Train on from the network in `start`, in `run_dir`, as `train_audio_vae`; the result is `run_dir`/audio_vae."""
    bank, held_out = sound_banks(config, run_dir, make_sound)
    trainer = AudioDecoderTrainer(config, bank, torch.device(device), start)
    train_to_end(trainer, held_out, run_dir)
    trainer.average.save_pretrained(run_dir / "audio_vae")
    metrics = reconstruction_metrics(trainer.average, held_out.clips)
    (run_dir / "audio_vae" / "metrics.json").write_text(json.dumps(asdict(metrics), indent=2))
    return metrics
