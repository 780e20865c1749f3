"""From clean latents to frames and a waveform, and what comes out of the pipeline in the caller's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.utils.outputs import BaseOutput
from PIL import Image
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.media.clip import Clip
from phonofilm.models.convolutions import channels_last_on_gpu
from phonofilm.models.one_pass import EXACT, OnePass, one_pass_fits
from phonofilm.pipeline.conditions import denormalize
from phonofilm.pipeline.finite import require_finite
from phonofilm.pipeline.types import Decoded

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def decode_video(vae: Any, latents: Tensor) -> Tensor:
    """Normalised latents [b,c,f,h,w] -> frames float32 [b,F,3,H,W] in 0..1, on the host.

    Clips are decoded one by one: a VAE's activations are far larger than its latents.
    """
    channels_last_on_gpu(vae, latents.device)
    frames = []
    for clip in denormalize(vae, latents).split(1):
        pixels = _decode_clip(vae, clip.to(vae.dtype))
        require_finite("the decoded picture", pixels)
        frames.append(pixels.float().mul_(0.5).add_(0.5).clamp_(0, 1).permute(0, 2, 1, 3, 4).cpu())
    return torch.cat(frames) if len(frames) > 1 else frames[0]


def _decode_clip(vae: Any, latents: Tensor) -> Tensor:
    """The VAE's latents [1,c,f,h,w] -> pixels [1,3,F,H,W] in -1..1."""
    frames, rows, columns = latents.shape[2:]
    if isinstance(vae, AutoencoderKLWan):
        space = vae.config.scale_factor_spatial
        pixels = (1 + (frames - 1) * vae.config.scale_factor_temporal) * rows * columns * space**2
        if one_pass_fits(vae, pixels, latents):
            return OnePass(vae, eps=EXACT).decode(latents).clamp(-1.0, 1.0)
    decoded: Tensor = vae.decode(latents).sample
    return decoded


def decode_audio(vae: Any, latents: Tensor, geometry: ClipGeometry) -> Tensor:
    """Latents [b,c,t] -> waveform float32 [b,1,samples] on the host, cut to the picture's length."""
    waves = [vae.decode(clip.to(vae.dtype)).float().cpu() for clip in latents.split(1)]
    require_finite("the decoded sound", *waves)
    return torch.cat(waves)[..., : geometry.num_samples]


def require_output_type(output_type: str) -> None:
    """Raises InputError for a word that is none of OUTPUT_TYPES."""
    if output_type not in OUTPUT_TYPES:
        raise InputError(f"output_type {output_type!r} is unknown; use one of {', '.join(OUTPUT_TYPES)}")


def to_output_type(clips: list[Decoded], output_type: str) -> tuple[Any, Any]:
    """Frames and sounds as the caller wants them; the clips of one call have one shape.

    "pt": [b,f,3,h,w] and [b,channels,samples]; "np": the same as arrays with frames [b,f,h,w,3]; "pil": lists of lists
    of pictures, and the sounds as an array.
    """
    audio = torch.stack([c.audio for c in clips])
    if output_type == "pil":
        # Picture by picture: the frames of a long clip take gigabytes, and each copy of them as many.
        return [[_picture(frame) for frame in clip.frames] for clip in clips], audio.numpy()
    (first, *rest) = [unit_range(clip.frames) for clip in clips]
    frames = torch.stack([first, *rest]) if rest else first[None]
    return (frames, audio) if output_type == "pt" else (frames.permute(0, 1, 3, 4, 2).numpy(), audio.numpy())


def _picture(frame: Tensor) -> Image.Image:
    image = frame.permute(1, 2, 0).numpy()
    return Image.fromarray(image if image.dtype == np.uint8 else to_uint8(image))


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Grey levels 0..255 of values in 0..1, rounded to the nearest."""
    return np.round(np.asarray(frames) * 255).astype(np.uint8)


def unit_range(frames: Tensor) -> Tensor:
    """float32 in 0..1 of frames that are that already, or grey levels; `to_uint8` gives the same grey levels back."""
    return frames.float().div_(255.0) if frames.dtype == torch.uint8 else frames


@dataclass
class MovaPipelineOutput(BaseOutput):
    """frames and audio in the format asked for, one entry per clip; audio is [channels, samples] at `sampling_rate`.

    With output_type "latent" they are the normalised video latents [b,c,f,h,w] and the audio latents [b,c,t], and
    `is_latent` is set. `forwards`: how often the model
    was run for them; `steps_skipped`: how many steps a step cache answered without it.
    """

    frames: Any
    audio: Any
    sampling_rate: int
    frame_rate: Fraction
    forwards: int = 0
    steps_skipped: int = 0
    is_latent: bool = False

    def __repr__(self) -> str:
        """Short, unlike the pictures and numbers in it."""
        return (
            f"MovaPipelineOutput({len(self.frames)} clip{'s' * (len(self.frames) != 1)} as {type(self.frames[0]).__name__}, "
            f"{float(self.frame_rate):g} fps, sound at {self.sampling_rate} Hz)"
        )

    def _repr_html_(self) -> str | None:
        """How a notebook shows it: each clip plays there. None for latents."""
        return None if self.is_latent else "".join(clip._repr_html_() for clip in self.clips())

    def clips(self, metadata: Sequence[dict[str, Any]] | None = None) -> list[Clip]:
        """The clips, ready for `save_clip`. Raises InputError for latents, which are not decoded."""
        if self.is_latent:
            raise InputError('these are latents, not decoded; make the clip with output_type "pil", "np" or "pt"')
        clips = []
        for index, (frames, audio) in enumerate(zip(self.frames, self.audio, strict=True)):
            if isinstance(frames, Tensor):
                frames = frames.permute(0, 2, 3, 1).numpy()
            images = np.empty((len(frames), *np.asarray(frames[0]).shape), np.uint8)
            for place, frame in enumerate(frames):
                grey = np.asarray(frame)
                images[place] = grey if grey.dtype == np.uint8 else to_uint8(grey)
            about = {} if metadata is None else metadata[index]
            clips.append(Clip(images, self.frame_rate, np.asarray(audio), self.sampling_rate, about))
        return clips
