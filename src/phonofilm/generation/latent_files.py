"""Latents as a file: safetensors with both tracks and the settings that made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonofilm.errors import MediaError
from phonofilm.files import replacing
from phonofilm.media.metadata import from_text, to_text

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
_SETTINGS = "phonofilm"


def is_latents(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def save_latents(video: Tensor, audio: Tensor, metadata: Mapping[str, Any], path: Path) -> None:
    """video [b,c,f,h,w] and audio [b,c,t] as float32 tensors video_latents and audio_latents; whole, or not at all."""
    from safetensors.torch import save

    tensors = {"video_latents": video.contiguous().cpu(), "audio_latents": audio.contiguous().cpu()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {_SETTINGS: to_text(metadata)}))


def read_latent_metadata(path: Path) -> dict[str, Any]:
    """The settings in a file of latents. Raises MediaError when it has none or is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            settings = from_text((file.metadata() or {})[_SETTINGS])
    except (SafetensorError, KeyError, OSError) as error:
        raise MediaError(f"{path} holds no latents with settings: {error}") from error
    if settings is None:
        raise MediaError(f"{path} holds settings that cannot be read")
    return settings
