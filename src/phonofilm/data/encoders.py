"""Windows and captions through the frozen networks, which are loaded when the first of their items is needed.

Legend: c latent channels, f h w latent frames and sides, n audio latents, l tokens, d text width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from phonofilm.data.window_reading import read_window
from phonofilm.data.windows import Bucket, ClipWindow
from phonofilm.geometry import ClipGeometry
from phonofilm.models.building import config_with_defaults
from phonofilm.models.hub import resolve_model
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.loading import load_component, load_tokenizer
from phonofilm.pipeline.conditions import encode_text, encode_video, frame_condition, tokenize, white_frame

MASK_CHANNELS = 4


@dataclass(frozen=True)
class EncodedWindow:
    """video, condition [c,f,h,w] (normalised; the condition is that of the first frame) and audio [c,n], float16."""

    video: Tensor
    condition: Tensor
    audio: Tensor


@dataclass(frozen=True)
class CaptionText:
    """tokens int64 [l] with their end mark, embeds float32 [l,d]."""

    tokens: Tensor
    embeds: Tensor


class Encoders:
    """The autoencoders, the text encoder and the tokenizer of a checkpoint, each loaded on first use, in float32."""

    def __init__(self, layout: CheckpointLayout, device: torch.device) -> None:
        self.layout, self.device = layout, device

    @cached_property
    def video_vae(self) -> Any:
        return load_component(self.layout, "video_vae", torch.float32, self.device)

    @cached_property
    def audio_vae(self) -> Any:
        return load_component(self.layout, "audio_vae", torch.float32, self.device)

    @cached_property
    def text_encoder(self) -> Any:
        """In the dtype of its files: it is by far the largest of the three."""
        return load_component(self.layout, "text_encoder", None, self.device)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.layout)

    def geometry(self, bucket: Bucket, frame_rate: Fraction) -> ClipGeometry:
        """The bucket in the checkpoint's units. Raises InputError for a size that the model cannot make."""
        video, audio, expert = (self._config(name) for name in ("video_vae", "audio_vae", "video_dit"))
        return ClipGeometry(
            height=bucket.height,
            width=bucket.width,
            num_frames=bucket.frames,
            frame_rate=frame_rate,
            spatial_factor=video["scale_factor_spatial"],
            temporal_factor=video["scale_factor_temporal"],
            sampling_rate=audio["sample_rate"],
            hop_length=math.prod(audio["encoder_rates"]),
            patch=expert["patch_size"][-1],
        )

    @torch.no_grad()
    def latents(self, window: ClipWindow) -> EncodedWindow:
        """A window's latents; those of silence where it has no sound."""
        geometry = self.geometry(window.bucket, window.frame_rate)
        clip = read_window(window, geometry.sampling_rate)
        pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        wave = torch.zeros(1, geometry.num_samples) if clip.audio is None else torch.from_numpy(clip.audio)
        video = encode_video(self.video_vae, pixels, self.device)
        condition = frame_condition(self.video_vae, geometry, self.device, pixels[:, :, 0])
        audio = self.audio_vae.encode(wave[None].to(self.device)).mode()
        tensors = (video[0], condition[0, MASK_CHANNELS:], audio[0])
        return EncodedWindow(*(tensor.to("cpu", torch.float16).contiguous() for tensor in tensors))

    @torch.no_grad()
    def white(self, bucket: Bucket, frame_rate: Fraction) -> Tensor:
        """[c,f,h,w]: the condition of a white first frame, which stands for no picture."""
        geometry = self.geometry(bucket, frame_rate)
        condition = frame_condition(self.video_vae, geometry, self.device, white_frame(geometry))
        return condition[0, MASK_CHANNELS:].cpu().contiguous()

    @torch.no_grad()
    def given_frames(self, geometry: ClipGeometry, first: Tensor, last: Tensor | None = None) -> Tensor:
        """[4+c,f,h,w] float16: mask and latents of a first frame, and of a last one; both [1,3,h,w] in -1..1."""
        condition = frame_condition(self.video_vae, geometry, self.device, first, last)
        return condition[0].to("cpu", torch.float16).contiguous()

    @torch.no_grad()
    def text(self, caption: str) -> CaptionText:
        """Tokens and embeddings of one caption. Raises InputError for one that is too long for the model."""
        tokens = tokenize(self.tokenizer, [caption], "caption")
        length = int(tokens.mask.sum())
        embeds = encode_text(self.text_encoder, tokens, self.device).embeds[0, :length]
        return CaptionText(tokens.ids[0, :length].contiguous(), embeds.float().cpu().contiguous())

    def _config(self, name: str) -> Any:
        component = self.layout.components[name]
        return config_with_defaults(component.class_name, component.config)


def encoders_of(model: str, device: torch.device) -> Encoders:
    """The encoders of a model by its name, which is downloaded where it is not here yet."""
    return Encoders(read_layout(resolve_model(model)), device)
