"""Between ComfyUI's VIDEO, IMAGE and AUDIO and Phonofilm's clips.

IMAGE: float [b, h, w, 3] in 0..1. AUDIO: {"waveform": float [b, channels, samples], "sample_rate": int}.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from phonofilm import Clip
from phonofilm.errors import InputError


def clip_of(video: Input.Video) -> Clip:
    """The frames and the sound of a VIDEO."""
    components = video.get_components()
    images = components.images[..., :3].clamp(0, 1)
    if images.isnan().any():
        raise InputError("the frames of the VIDEO hold values that are not numbers; look at the node that made them")
    frames = np.round(images.cpu().numpy() * 255).astype(np.uint8)
    return Clip(frames, Fraction(components.frame_rate), *(sound_of(components.audio) or ()))


def sounding_clip_of(video: Input.Video) -> Clip:
    """As `clip_of`, for nodes that go on from picture and sound."""
    clip = clip_of(video)
    if clip.audio is None:
        raise InputError("the VIDEO has no sound; give it one first with Phonofilm Sound for a Video")
    return clip


def sound_of(audio: dict[str, Any] | None) -> tuple[np.ndarray, int] | None:
    """The first sound of an AUDIO: float32 [channels, samples] and its samples per second; None of none."""
    if audio is None:
        return None
    wave = _first(audio["waveform"], "AUDIO").detach().cpu().to(torch.float32).numpy()
    return np.ascontiguousarray(wave), int(audio["sample_rate"])


def picture_of(images: Tensor | None) -> np.ndarray | None:
    """The first picture of an IMAGE, float [h, w, 3] in 0..1; None of none."""
    return None if images is None else _first(images, "IMAGE")[..., :3].clamp(0, 1).cpu().numpy()


def _first(batch: Tensor, kind: str) -> Tensor:
    """The first of a batch, which another node may have left without any."""
    if not len(batch):
        raise InputError(f"the {kind} is an empty batch, of shape {tuple(batch.shape)}; look at the node that made it")
    return batch[0]


def images_of(clip: Clip) -> Tensor:
    """The frames as an IMAGE. SaveVideo cuts decimals off: a quarter of a grey level keeps each what it is."""
    return ((torch.from_numpy(clip.frames).float() + 0.25) / 255).clamp(0, 1)


def audio_of(clip: Clip) -> dict[str, Any] | None:
    """The sound as an AUDIO."""
    if clip.audio is None:
        return None
    return {"waveform": torch.from_numpy(clip.audio)[None], "sample_rate": clip.sampling_rate}


def video_of(clip: Clip) -> Input.Video:
    """Picture and sound as a VIDEO."""
    parts = Types.VideoComponents(images=images_of(clip), audio=audio_of(clip), frame_rate=clip.frame_rate)
    return InputImpl.VideoFromComponents(parts)
