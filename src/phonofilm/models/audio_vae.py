"""The audio VAE: a continuous (KL) descript-audio-codec between waveforms and latents. No quantiser, no file formats.

Legend: b batch, t samples, n = t / hop_length latents, c latent channels. Waveforms are mono, in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError

WEIGHT_NORM_SUFFIXES = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha with one learned alpha per channel: an activation that can carry a period."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).square()


class ResidualUnit(nn.Module):
    """A dilated convolution and a pointwise one around a skip connection; the length stays."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            nn.Conv1d(channels, channels, kernel_size=7, dilation=dilation, padding=3 * dilation),
            Snake(channels),
            nn.Conv1d(channels, channels, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.block(x)
        return result


def residual_units(channels: int) -> list[nn.Module]:
    """Three units whose dilations 1, 3, 9 see 7, 19 and 55 positions."""
    return [ResidualUnit(channels, dilation) for dilation in (1, 3, 9)]


class EncoderBlock(nn.Module):
    """[b, channels, t] -> [b, 2 channels, t / stride]."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        down = nn.Conv1d(channels, 2 * channels, 2 * stride, stride, padding=math.ceil(stride / 2))
        self.block = nn.Sequential(*residual_units(channels), Snake(channels), down)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result


class DecoderBlock(nn.Module):
    """[b, channels, n] -> [b, channels / 2, n * stride]."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        # An odd stride would come out one sample short per block without the output padding.
        up = nn.ConvTranspose1d(
            channels, channels // 2, 2 * stride, stride, padding=math.ceil(stride / 2), output_padding=stride % 2
        )
        self.block = nn.Sequential(Snake(channels), up, *residual_units(channels // 2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result


class Encoder(nn.Module):
    """[b, 1, t] -> [b, c, n]; the width doubles at every rate."""

    def __init__(self, channels: int, rates: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        blocks = [EncoderBlock(channels * 2**i, rate) for i, rate in enumerate(rates)]
        channels_out = channels * 2 ** len(rates)
        self.block = nn.Sequential(
            nn.Conv1d(1, channels, kernel_size=7, padding=3),
            *blocks,
            Snake(channels_out),
            nn.Conv1d(channels_out, latent_dim, kernel_size=3, padding=1),
        )

    def forward(self, wave: Tensor) -> Tensor:
        result: Tensor = self.block(wave)
        return result


class Decoder(nn.Module):
    """[b, c, n] -> [b, 1, t] in (-1, 1); the width halves at every rate."""

    def __init__(self, latent_dim: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        blocks = [DecoderBlock(channels // 2**i, rate) for i, rate in enumerate(rates)]
        channels_out = channels // 2 ** len(rates)
        self.model = nn.Sequential(
            nn.Conv1d(latent_dim, channels, kernel_size=7, padding=3),
            *blocks,
            Snake(channels_out),
            nn.Conv1d(channels_out, 1, kernel_size=7, padding=3),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = self.model(z)
        return result


@dataclass(frozen=True)
class AudioPosterior:
    """The encoder's diagonal Gaussian over latents: `mean` and `logvar` (clamped to -30..20), both [b, c, n]."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        noise = randn_tensor(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        result: Tensor = self.mean + torch.exp(0.5 * self.logvar) * noise
        return result

    def kl(self) -> Tensor:
        """Divergence from the unit Gaussian, averaged over channels and time: [b], in nats per latent number."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).mean(dim=(1, 2))


@dataclass(frozen=True)
class AudioReconstruction:
    """What one pass through the autoencoder gives: `wave` [b, 1, t] of the input's length, and the `posterior`."""

    wave: Tensor
    posterior: AudioPosterior


class DAC(ModelMixin, ConfigMixin):
    """The continuous DAC. The arguments are the keys of the released config.json.

    `n_codebooks`, `codebook_size`, `codebook_dim` and `quantizer_dropout` describe a quantiser this variant does not
    have: they are kept in the config, so that what we save opens elsewhere, and shape nothing. `use_weight_norm` tells
    how the checkpoint's weights are stored; here they are always plain (`fuse_weight_norm`), and our config says so.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        encoder_dim: int = 64,
        encoder_rates: Sequence[int] = (2, 4, 8, 8),
        latent_dim: int | None = None,
        decoder_dim: int = 1536,
        decoder_rates: Sequence[int] = (8, 8, 4, 2),
        n_codebooks: int = 9,
        codebook_size: int = 1024,
        codebook_dim: int | Sequence[int] = 8,
        quantizer_dropout: bool = False,
        sample_rate: int = 44100,
        continuous: bool = True,
        use_weight_norm: bool = False,
    ) -> None:
        super().__init__()
        if not continuous:
            raise CheckpointError(
                "audio_vae has continuous: false; the quantised DAC is not supported: MOVA uses the continuous one. "
                "Use a checkpoint whose audio_vae/config.json says continuous: true"
            )
        if math.prod(encoder_rates) != math.prod(decoder_rates):
            raise CheckpointError(
                f"audio_vae encoder_rates {list(encoder_rates)} and decoder_rates {list(decoder_rates)} do not undo "
                "each other; their products must be equal"
            )
        self.register_to_config(use_weight_norm=False)
        self.hop_length = math.prod(encoder_rates)
        self.sampling_rate = sample_rate
        self.latent_dim = latent_dim or encoder_dim * 2 ** len(encoder_rates)
        self.encoder = Encoder(encoder_dim, encoder_rates, self.latent_dim)
        self.quant_conv = nn.Conv1d(self.latent_dim, 2 * self.latent_dim, 1)
        self.post_quant_conv = nn.Conv1d(self.latent_dim, self.latent_dim, 1)
        self.decoder = Decoder(self.latent_dim, decoder_dim, decoder_rates)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, output_loading_info: bool = False, **options: Any
    ) -> Any:  # as diffusers: a DAC, and with output_loading_info what was missing and unexpected
        """As diffusers' loader. Raises CheckpointError for weight-normalised files, which it would leave out in silence."""
        model, info = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **options)
        suffixes = tuple(suffix for pair in WEIGHT_NORM_SUFFIXES for suffix in pair)
        if normed := [key for key in info["unexpected_keys"] if key.endswith(suffixes)]:
            raise CheckpointError(
                f"{pretrained_model_name_or_path} holds weight-normalised layers ({normed[0]} and {len(normed) - 1} more), "
                "which DAC.from_pretrained does not fold; open the whole checkpoint with MovaPipeline.from_pretrained, or "
                "this part with phonofilm.models.loading.load_component"
            )
        return (model, info) if output_loading_info else model

    def preprocess(self, wave: Tensor) -> Tensor:
        """[..., t] -> [..., n * hop_length]: zeros on the right up to the next whole latent."""
        return nn.functional.pad(wave, (0, -wave.shape[-1] % self.hop_length))

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def encode(self, wave: Tensor) -> AudioPosterior:
        """[b, 1, t] -> the posterior over [b, c, ceil(t / hop_length)]. Raises InputError on any other shape."""
        if wave.ndim != 3 or wave.shape[1] != 1 or wave.shape[2] == 0:
            raise InputError(f"wave has shape {tuple(wave.shape)}; expected [batch, 1, samples], mono")
        moments = self.quant_conv(self.encoder(self.preprocess(wave)))
        mean, logvar = moments.chunk(2, dim=1)
        return AudioPosterior(mean, logvar.clamp(-30.0, 20.0))

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def decode(self, z: Tensor) -> Tensor:
        """[b, c, n] -> [b, 1, n * hop_length] in (-1, 1). Raises InputError on any other shape."""
        if z.ndim != 3 or z.shape[1] != self.latent_dim:
            raise InputError(f"audio latents have shape {tuple(z.shape)}; expected [batch, {self.latent_dim}, latents]")
        result: Tensor = self.decoder(self.post_quant_conv(z))
        return result

    def forward(self, wave: Tensor, generator: torch.Generator | None = None) -> AudioReconstruction:
        """One training pass: encode, sample the posterior, decode, cut to the input's length."""
        posterior = self.encode(wave)
        return AudioReconstruction(self.decode(posterior.sample(generator))[..., : wave.shape[-1]], posterior)


def fuse_weight_norm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with every weight-normalised pair (g, v) replaced by weight = g * v / |v|.

    Understands torch's old naming (`weight_g`, `weight_v`) and the parametrisation's (`original0`, `original1`); other
    entries pass through. Norms are taken in float32. Raises CheckpointError when one half of a pair is missing.
    """
    fused = dict(state_dict)
    for magnitude_suffix, direction_suffix in WEIGHT_NORM_SUFFIXES:
        stems = {
            name.removesuffix(suffix)
            for name in state_dict
            for suffix in (magnitude_suffix, direction_suffix)
            if name.endswith(suffix)
        }
        for stem in sorted(stems):
            for name in (stem + magnitude_suffix, stem + direction_suffix):
                if name not in fused:
                    raise CheckpointError(f"{name} is missing: a weight-normalised layer needs both of its tensors")
            magnitude, direction = fused.pop(stem + magnitude_suffix), fused.pop(stem + direction_suffix)
            # The magnitude has one entry per slice: the norm runs over every dimension in which it has size 1.
            shared = [d for d, size in enumerate(magnitude.shape) if size == 1]
            norm = torch.linalg.vector_norm(direction.float(), dim=shared, keepdim=True)
            fused[stem + ".weight"] = (direction.float() * (magnitude.float() / norm)).to(direction.dtype)
    return fused
