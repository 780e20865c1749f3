"""How well the video autoencoder gives a world clip back: PSNR, PSNR of moving pixels, colour kept, a sheet to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from PIL import Image

from phonofilm.models.one_pass import OnePass
from phonofilm.nano.world import HELD_OUT_SEED, WorldClip, make_clip
from phonofilm.nano.world.palette import COLOURS

MOVING = 8  # of 255: a pixel that changed by more since the frame before


@dataclass(frozen=True)
class Reconstruction:
    """Means over clips: PSNR in dB (peak 255), PSNR where something moves (NaN if nothing does), share that keeps its colour."""

    psnr: float
    moving_psnr: float
    colour_kept: float


def held_out_frames(count: int, *, size: int = 64, num_frames: int = 49) -> list[WorldClip]:
    """World clips that no training sees."""
    return [make_clip(HELD_OUT_SEED + i, size=size, num_frames=num_frames) for i in range(count)]


@torch.no_grad()
def reconstruct(vae: AutoencoderKLWan, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames [f, h, w, 3] through the autoencoder and back, at the posterior's mean."""
    device = next(vae.parameters()).device
    mean, _ = OnePass(vae).encode(to_pixels(torch.from_numpy(np.array(frames[None])).to(device)))
    pixels = OnePass(vae).decode(mean)[0].movedim(0, -1)
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def to_pixels(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [b, f, h, w, 3] to float [b, 3, f, h, w] in -1..1."""
    return frames.movedim(-1, 1).float() / 127.5 - 1


def moving_mask(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[f, h, w]: pixels that differ from the frame before; none in the first frame."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(-1) > MOVING
    return np.concatenate((np.zeros_like(change[:1]), change))


def measure_reconstruction(vae: AutoencoderKLWan, clips: list[WorldClip]) -> Reconstruction:
    """Reconstruct the clips one by one and compare."""
    whole, moving, kept = [], [], []
    for clip in clips:
        back = reconstruct(vae, clip.frames)
        error = (back.astype(np.float32) - clip.frames) ** 2
        whole.append(_psnr(error))
        mask = moving_mask(clip.frames)
        if mask.any():
            moving.append(_psnr(error[mask]))
        kept.append(named_colour(back[-1], clip.frames[-1], clip.attributes["colour"]) == clip.attributes["colour"])
    return Reconstruction(float(np.mean(whole)), float(np.mean(moving)) if moving else math.nan, float(np.mean(kept)))


def named_colour(picture: NDArray[np.uint8], truth: NDArray[np.uint8], colour: str) -> str:
    """The palette's name for what `picture` shows where `truth` is of this colour (any brightness of it)."""
    tints = {name: _chroma(np.asarray(rgb, np.float32)) for name, rgb in COLOURS.items()}
    chroma = _chroma(truth.astype(np.float32))
    strength = np.linalg.norm(chroma, axis=-1)
    likeness = chroma @ tints[colour] / (strength * np.linalg.norm(tints[colour]) + 1e-6)
    mask = (likeness > 0.97) & (strength > 30)
    seen = _chroma(picture.astype(np.float32)[mask].mean(0)) if mask.any() else np.zeros(3, np.float32)
    scores = {name: float(seen @ tint) / float(np.linalg.norm(tint)) for name, tint in tints.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > 15 else "none"


def save_sheet(vae: AutoencoderKLWan, clips: list[WorldClip], path: Path, columns: int = 8) -> None:
    """A picture with two rows per clip, truth above reconstruction, at evenly spaced frames."""
    rows = []
    for clip in clips:
        picks = np.linspace(0, len(clip.frames) - 1, columns).round().astype(int)
        rows += [np.concatenate(list(part[picks]), axis=1) for part in (clip.frames, reconstruct(vae, clip.frames))]
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(path)


def _chroma(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = rgb - rgb.mean(-1, keepdims=True)
    return result


def _psnr(squared_error: NDArray[np.float32]) -> float:
    return float(10 * np.log10(255**2 / max(float(squared_error.mean()), 1e-6)))
