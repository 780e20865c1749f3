"""From a seed to noise: a generator for each clip, and the noise of both tracks that sampling begins with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.pipeline.types import Latents


def clip_generators(generator: torch.Generator | Sequence[torch.Generator] | None, clips: int) -> list[torch.Generator]:
    """One generator for each clip. Clip 0 of a single generator draws from it, clip i from its initial seed + i."""
    if generator is None:
        first = torch.Generator()
        first.seed()
        generator = first
    if isinstance(generator, torch.Generator):
        seed = generator.initial_seed()
        return [generator, *(torch.Generator().manual_seed(seed + i) for i in range(1, clips))]
    if not isinstance(generator, Sequence) or not all(isinstance(one, torch.Generator) for one in generator):
        raise InputError(
            f"generator is {generator!r}; expected a torch.Generator, such as torch.Generator().manual_seed(7)"
        )
    if len(generator) != clips:
        raise InputError(f"{len(generator)} generators for {clips} clips; give one, or one for each clip")
    return list(generator)


def start_noise(
    geometry: ClipGeometry,
    channels: tuple[int, int],
    generators: Sequence[torch.Generator],
    latents: Tensor | None,
    audio_latents: Tensor | None,
    device: torch.device,
) -> Latents:
    """Float32 noise for both tracks, drawn clip by clip on the generator's own device: a seed means one clip everywhere."""
    video_shape = (channels[0], geometry.latent_frames, geometry.latent_height, geometry.latent_width)
    audio_shape = (channels[1], geometry.audio_latents)
    drawn = [[torch.randn(s, generator=g, device=g.device) for s in (video_shape, audio_shape)] for g in generators]
    video, audio = (torch.stack([clip[track].to(device) for clip in drawn]) for track in (0, 1))
    return Latents(
        video if latents is None else _instead(latents, video, "latents"),
        audio if audio_latents is None else _instead(audio_latents, audio, "audio_latents"),
    )


def _instead(own: Tensor, drawn: Tensor, name: str) -> Tensor:
    if not isinstance(own, Tensor):
        raise InputError(f"{name} is {own!r:.80}, a {type(own).__name__}; expected a tensor {tuple(drawn.shape)}")
    if own.shape != drawn.shape:
        raise InputError(f"{name} has shape {tuple(own.shape)}; this clip needs {tuple(drawn.shape)}")
    return own.to(drawn)
