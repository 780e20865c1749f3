"""The training loop of the video autoencoder: one run's state, its loss, its clock and its checkpoint."""

from __future__ import annotations

import csv
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phonofilm.files import replacing
from phonofilm.models.convolutions import channels_last
from phonofilm.models.one_pass import OnePass
from phonofilm.training.loop.muon import BatchedMuon
from phonofilm.training.loop.precision import has_fast_bfloat16
from recipes.nano.video_vae.config import Phase, VideoVaeConfig, build_video_vae
from recipes.nano.video_vae.frame_bank import FrameBank
from recipes.nano.video_vae.parameter_groups import split_parameters
from recipes.nano.video_vae.reconstruction import held_out_frames, measure_reconstruction, save_sheet, to_pixels

logger = logging.getLogger(__name__)


def busy_pixels(frames: Tensor) -> Tensor:
    """[b, f, h, w] 0/1: pixels that move, or that lie on an edge, in uint8 frames [b, f, h, w, 3]."""
    x = frames.to(torch.int16)
    busy = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
    if x.shape[1] > 1:
        busy[:, 1:] |= (x[:, 1:] - x[:, :-1]).abs().amax(-1) > 8
    vertical = (x[:, :, 1:] - x[:, :, :-1]).abs().amax(-1) > 24
    horizontal = (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().amax(-1) > 24
    busy[:, :, 1:] |= vertical
    busy[:, :, :-1] |= vertical
    busy[:, :, :, 1:] |= horizontal
    busy[:, :, :, :-1] |= horizontal
    return busy.float()


class VideoVaeTrainer:
    """One run's state: weights, optimizers, clock and random numbers, all of which are checkpointed."""

    def __init__(self, config: VideoVaeConfig, run_dir: Path, bank: FrameBank) -> None:
        self.config, self.run_dir, self.bank, self.device = config, run_dir, bank, bank.device
        device = bank.device
        self.vae = build_video_vae(config).to(device)
        channels_last(self.vae)
        self.net = OnePass(self.vae, compile=config.compile)
        matrices, rest = split_parameters(self.vae, ("encoder.conv_in", "decoder.conv_out"))
        self.muon = BatchedMuon(matrices, config.muon_rate, weight_decay=0.0)
        self.adamw = torch.optim.AdamW(
            rest, config.adamw_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=device.type == "cuda"
        )
        self.random = np.random.default_rng(config.seed)
        self.noise = torch.Generator(device).manual_seed(config.seed)
        self.autocast = has_fast_bfloat16(self.device) if config.autocast is None else config.autocast
        self.steps, self.elapsed = 0, 0.0
        self.measured = self.saved = 0.0
        self.clock = time.monotonic()
        self.clips = held_out_frames(config.held_out, size=config.size, num_frames=config.num_frames)

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end."""
        if self.config.max_steps is not None:
            return min(self.steps / self.config.max_steps, 1.0)
        return min(self.elapsed / self.config.budget_seconds, 1.0)

    @property
    def done(self) -> bool:
        """Whether the schedule is used up."""
        return self.progress >= 1.0

    def step(self) -> None:
        """One update, then whatever is due: a log line, a measurement, a checkpoint."""
        phase = self._phase()
        factor = phase.rate * self._rate()
        for optimizer, rate in ((self.muon, self.config.muon_rate), (self.adamw, self.config.adamw_rate)):
            optimizer.param_groups[0]["lr"] = rate * factor
        frames = self._batch(phase)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss, parts = self._loss(frames)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.vae.parameters(), self.config.clip_norm))
        if math.isfinite(norm):
            self.muon.step()
            self.adamw.step()
        else:
            logger.warning("step %d: the gradient is not finite; step skipped", self.steps)
        for optimizer in (self.muon, self.adamw):
            optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        now = time.monotonic()
        self.elapsed, self.clock = self.elapsed + now - self.clock, now
        if self.steps % 10 == 0 or self.steps <= 3:
            self._log("log.csv", {**self._where(), "frames": phase.frames, **parts, "norm": norm})
        if self.elapsed - self.measured > self.config.measure_seconds:
            self.observe()
            self.measured = self.elapsed
        if self.elapsed - self.saved > self.config.save_seconds:
            self.save()

    def observe(self) -> None:
        """Measure on held-out clips and save the sheet."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            result = measure_reconstruction(self.vae, self.clips)
            save_sheet(self.vae, self.clips[:6], self.run_dir / f"sheet_{round(self.elapsed):05d}.png")
        logger.info("video VAE %.0f s, step %d: %s", self.elapsed, self.steps, result)
        self._log("measures.csv", {**self._where(), **asdict(result)})

    def save(self) -> None:
        """Write the checkpoint, never leaving half of one."""
        state = {
            "vae": self.vae.state_dict(),
            "muon": self.muon.state_dict(),
            "adamw": self.adamw.state_dict(),
            "random": self.random.bit_generator.state,
            "noise": self.noise.get_state(),
            "steps": self.steps,
            "elapsed": self.elapsed,
        }
        with replacing(self.run_dir / "checkpoint.pt") as temporary:
            torch.save(state, temporary)
        self.saved = self.elapsed

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self.run_dir / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.vae.load_state_dict(state["vae"])
            self.muon.load_state_dict(state["muon"])
            self.adamw.load_state_dict(state["adamw"])
            self.random.bit_generator.state = state["random"]
            self.noise.set_state(state["noise"].cpu())
            self.steps, self.elapsed = state["steps"], state["elapsed"]
            self.measured = self.saved = self.elapsed
            logger.info("video VAE: resuming at step %d, %.0f s", self.steps, self.elapsed)
        self.clock = time.monotonic()

    def _phase(self) -> Phase:
        passed = 0.0
        for phase in self.config.phases:
            passed += phase.share
            if self.progress < passed:
                return phase
        return self.config.phases[-1]

    def _rate(self) -> float:
        """Learning rate factor: a short warm-up, then one cosine down to a hundredth."""
        warm = min((self.steps + 1) / 40, 1.0)
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def _batch(self, phase: Phase) -> Tensor:
        """uint8 [b, f, h, w, 3]: random windows of random clips."""
        frames = min(phase.frames, self.bank.num_frames)
        picks = self.random.integers(self.bank.ready(), size=phase.batch)
        starts = self.random.integers(self.bank.num_frames - frames + 1, size=phase.batch)
        return self.bank.windows(picks, starts, frames)

    def _loss(self, frames: Tensor) -> tuple[Tensor, dict[str, float]]:
        target = to_pixels(frames)
        busy = busy_pixels(frames)
        if frames.shape[1] > 1:  # some clips as the joint model sees its condition: one frame, then grey
            conditions = torch.from_numpy(self.random.random(len(frames)) < self.config.condition_share)
            target[conditions, :, 1:] = 0.0
            busy[conditions, 1:] = 0.0
        mean, logvar = self.net.encode(target)
        noise = torch.randn(mean.shape, generator=self.noise, device=self.device)
        back = self.net.decode(mean + noise * torch.exp(0.5 * logvar))
        weight = (1 + (self.config.busy_weight - 1) * busy).unsqueeze(1)
        error = back - target
        total = weight.sum() * 3
        absolute = (error.abs() * weight).sum() / total
        square = (error.square() * weight).sum() / total
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = absolute + 0.5 * square + self.config.kl_weight * kl
        with torch.no_grad():
            psnr = -10 * math.log10(float(F.mse_loss(back, target)) / 4 + 1e-9)
        parts = {
            "loss": float(loss.detach()),
            "l1": float(absolute.detach()),
            "mse": float(square.detach()),
            "kl": float(kl.detach()),
            "psnr": psnr,
        }
        return loss, parts

    def _where(self) -> dict[str, float]:
        return {"seconds": round(self.elapsed, 1), "step": self.steps}

    def _log(self, name: str, row: dict[str, float]) -> None:
        path = self.run_dir / name
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
