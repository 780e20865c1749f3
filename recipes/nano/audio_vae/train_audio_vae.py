"""The audio VAE's stage of the recipe: trains the small continuous DAC on the world's sound, saves it ready to use."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from phonofilm.files import replacing
from phonofilm.models.audio_vae import DAC, AudioPosterior
from phonofilm.nano.world import HELD_OUT_SEED, make_clip
from recipes.nano.audio_vae.finish import ReconstructionMetrics, finish_audio_vae, reconstruction_metrics
from recipes.nano.audio_vae.sound_bank import Sound, SoundBank, render_bank
from recipes.nano.audio_vae.wave_loss import wave_loss

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AudioVaeConfig:
    """Sizes, data and schedule of the stage.

    `rates` are the encoder's strides (the decoder undoes them). The stage ends when `budget_seconds` of training time
    or `max_steps` are used up, whichever comes first; the learning rate follows one cosine over that time, down to the
    share `final_learning_rate`. `crop_hops` is a crop's length in latents; `even_share` of the crops are drawn
    regardless of loudness. The loss's threshold, `quiet`, falls from `first_quiet` to `last_quiet` (magnitudes) over the
    first `quiet_share` of the stage. `distance_weight` is of the decoder's stage alone. `compile` needs a C++ compiler
    and saves a third of the time.
    """

    encoder_dim: int = 8
    rates: tuple[int, ...] = (4, 4, 4, 5)
    decoder_dim: int = 128
    latent_dim: int = 16
    sampling_rate: int = 16000
    train_clips: int = 4000
    held_out_clips: int = 96
    watched_clips: int = 16
    crop_hops: int = 24
    even_share: float = 0.25
    batch_size: int = 4
    budget_seconds: float = 1800.0
    max_steps: int = 10**9
    warmup_steps: int = 50
    learning_rate: float = 1.5e-3
    final_learning_rate: float = 0.02
    ema_decay: float = 0.999
    spectral_weight: float = 1.0
    mel_weight: float = 0.5
    wave_weight: float = 5.0
    kl_weight: float = 1e-3
    distance_weight: float = 0.0
    first_quiet: float = 0.03
    last_quiet: float = 2e-4
    quiet_share: float = 0.6
    save_every_seconds: float = 120.0
    compile: bool = False
    seed: int = 0

    @property
    def hop(self) -> int:
        return math.prod(self.rates)


def build_audio_vae(config: AudioVaeConfig) -> DAC:
    """A fresh DAC with fan-in scaled weights and nearly noiseless latents: the original's init stays silent for long."""
    vae = DAC(
        encoder_dim=config.encoder_dim,
        encoder_rates=list(config.rates),
        latent_dim=config.latent_dim,
        decoder_dim=config.decoder_dim,
        decoder_rates=list(reversed(config.rates)),
        sample_rate=config.sampling_rate,
    )
    generator = torch.Generator().manual_seed(config.seed)
    for module in vae.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            # A transposed convolution sums kernel / stride taps of every input channel into one output.
            taps = module.in_channels * module.kernel_size[0]
            fan_in = taps / module.stride[0] if isinstance(module, nn.ConvTranspose1d) else taps
            nn.init.normal_(module.weight, std=fan_in**-0.5, generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        # Sound has a deviation near 0.1. Brought to 1, it reaches Snake where it bends and drowns out the latents' noise.
        vae.encoder.block[0].weight *= 10.0
        vae.decoder.model[-2].weight *= 0.2
        vae.quant_conv.weight[config.latent_dim :] *= 0.1
        vae.quant_conv.bias[config.latent_dim :] = -4.0
        for block in vae.modules():
            if isinstance(block, nn.Sequential) and len(block) == 4 and isinstance(block[3], nn.Conv1d):
                block[3].weight *= 0.3  # residual branches start small, so that depth does not blow up the signal
    result: DAC = vae
    return result


class AudioVaeTrainer:
    """The stage's state between steps: the network, its moving average, the optimizer and the clock."""

    def __init__(self, config: AudioVaeConfig, bank: SoundBank, device: torch.device) -> None:
        self.config, self.bank, self.device = config, bank, device
        self.vae, average = (self.network().to(device) for _ in range(2))
        self.average = average.requires_grad_(False).eval()
        self.learning = [parameter for parameter in self.vae.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.learning, lr=config.learning_rate, betas=(0.8, 0.99), weight_decay=0.0, fused=device.type == "cuda"
        )
        self.steps = 0
        self.seconds = 0.0
        if config.compile:
            self.vae.encoder.compile()
            self.vae.decoder.compile()

    def network(self) -> DAC:
        """What training starts from; parameters that do not learn ask for no gradients."""
        return build_audio_vae(self.config)

    @property
    def progress(self) -> float:
        """How much of the stage is done, 0..1."""
        return min(1.0, max(self.steps / self.config.max_steps, self.seconds / self.config.budget_seconds))

    def step(self) -> dict[str, float]:
        """One update on one batch of crops; returns its losses. What is drawn depends on the seed and the step alone."""
        began = time.monotonic()
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.steps)
        wave = self.bank.draw(config.batch_size, generator).to(self.device)
        parts = self.losses(wave, generator)
        weights = {"spectral": config.spectral_weight, "mel": config.mel_weight, "wave": config.wave_weight}
        weights |= {"kl": config.kl_weight, "distance": config.distance_weight}
        total = torch.stack([weights[name] * loss for name, loss in parts.items()]).sum()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.learning, 1.0)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.update_average()
        self.steps += 1
        self.seconds += time.monotonic() - began
        values = {"loss": total, **parts, "grad_norm": norm}
        return {name: float(value.detach()) for name, value in values.items()}

    def losses(self, wave: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses on crops [b, 1, t], each a scalar, by the names of their weights."""
        posterior = self.vae.encode(wave)
        noise = torch.randn(posterior.mean.shape, generator=generator).to(self.device)
        loss = wave_loss(wave, self.vae.decode(shifted(posterior, noise)), self.config.sampling_rate, self.quiet())
        return {"spectral": loss.spectral, "mel": loss.mel, "wave": loss.wave, "kl": posterior.kl().mean()}

    def learning_rate(self) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
        floor = self.config.final_learning_rate
        warm = min(1.0, (self.steps + 1) / self.config.warmup_steps)
        return self.config.learning_rate * warm * (floor + (1 - floor) * cosine)

    def quiet(self) -> float:
        """The magnitude below which the loss hears nothing yet, lowered over the first part of the stage.

        Most of a clip is silence. A loss that counts it from the start rewards a silent decoder above all, and the
        training stays there.
        """
        first, last = self.config.first_quiet, self.config.last_quiet
        return float(first * (last / first) ** min(1.0, self.progress / self.config.quiet_share))

    @torch.no_grad()
    def update_average(self) -> None:
        # Early on a long memory would remember the random start: the decay grows to its value.
        decay = min(self.config.ema_decay, (1 + self.steps) / (10 + self.steps))
        for ours, theirs in zip(self.average.parameters(), self.vae.parameters(), strict=True):
            ours.lerp_(theirs, 1 - decay)

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs; the old checkpoint stays until the new one is whole."""
        state = {
            "vae": self.vae.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on where `save` left off, exactly."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.vae.load_state_dict(state["vae"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.seconds = state["steps"], state["seconds"]


def shifted(posterior: AudioPosterior, noise: Tensor) -> Tensor:
    """The posterior's sample for this unit noise [b, c, n]."""
    return posterior.mean + torch.exp(0.5 * posterior.logvar) * noise


def train_audio_vae(
    config: AudioVaeConfig,
    run_dir: Path,
    *,
    device: torch.device | str = "cpu",
    make_sound: Callable[[int], Sound] | None = None,
) -> ReconstructionMetrics:
    """Train, or go on training, in `run_dir`; at the end save the network to `run_dir`/audio_vae with its metrics.

    `run_dir` holds the rendered sound (`train.npy`, `held_out.npy`), the checkpoint (`audio_vae.pt`) and the curves
    (`audio_vae.csv`). `make_sound` gives the waveform of a seed at the config's rate; the world's by default. Calling it
    again after an interruption continues from the last checkpoint.
    """
    bank, held_out = sound_banks(config, run_dir, make_sound)
    trainer = AudioVaeTrainer(config, bank, torch.device(device))
    train_to_end(trainer, held_out, run_dir)
    return finish_audio_vae(trainer.average, bank.clips, held_out.clips, run_dir / "audio_vae")


def sound_banks(
    config: AudioVaeConfig, run_dir: Path, make_sound: Callable[[int], Sound] | None
) -> tuple[SoundBank, SoundBank]:
    """Rendered sound to train on, and held-out sound; rendered into `run_dir` if it is not there yet."""
    sound = make_sound or partial(world_sound, sampling_rate=config.sampling_rate)
    render_bank(run_dir / "train.npy", range(config.train_clips), sound)
    held_out_seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + config.held_out_clips)
    render_bank(run_dir / "held_out.npy", held_out_seeds, sound)
    bank = SoundBank.load(run_dir / "train.npy", config.crop_hops * config.hop, config.hop, config.even_share)
    return bank, SoundBank.load(run_dir / "held_out.npy", bank.crop, bank.hop, 1.0)


def train_to_end(trainer: AudioVaeTrainer, held_out: SoundBank, run_dir: Path) -> None:
    """Train until the budget is used up, from the checkpoint in `run_dir` if there is one; curves into its CSV."""
    config, checkpoint = trainer.config, run_dir / "audio_vae.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
        logger.info("resumed the audio VAE at step %d after %.0f s", trainer.steps, trainer.seconds)
    saved_at = trainer.seconds
    while trainer.progress < 1.0:
        losses = trainer.step()
        if trainer.seconds - saved_at >= config.save_every_seconds or trainer.progress >= 1.0:
            saved_at = trainer.seconds
            trainer.save(checkpoint)
            watched = reconstruction_metrics(trainer.average, held_out.clips[: config.watched_clips])
            log_curves(run_dir / "audio_vae.csv", trainer, losses, watched)


def world_sound(seed: int, sampling_rate: int) -> Sound:
    """The waveform [samples] of this seed's clip; its picture is drawn as small as possible and thrown away."""
    return make_clip(seed, size=8, sampling_rate=sampling_rate).audio


def log_curves(path: Path, trainer: AudioVaeTrainer, losses: dict[str, float], watched: ReconstructionMetrics) -> None:
    """Append one row to the CSV of curves: time, losses of the last step, quality on the watched held-out clips."""
    row = {"step": float(trainer.steps), "seconds": round(trainer.seconds, 1), "progress": round(trainer.progress, 4)}
    row |= {name: round(value, 5) for name, value in losses.items()}
    row |= {"spectral_distance_db": round(watched.spectral_distance_db, 3), "sdr_db": round(watched.sdr_db, 3)}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    logger.info("audio VAE %s", " ".join(f"{name}={value:g}" for name, value in row.items()))
