"""One-pass encode and decode of an `AutoencoderKLWan`, for training: every frame at once, no feature cache.

diffusers runs the causal autoencoder chunk by chunk, remembering the last frames of every layer; that is slow to train
through. Over a whole clip the same numbers come from plain causal convolutions, if two quirks are kept: the temporal
down-sampling passes the first frame by, and the temporal up-sampling neither doubles the first frame nor looks at it.

Shapes: b batch, c channels, t frames, h rows, w columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor, nn


class OnePass:
    """The autoencoder's two directions over whole clips. `compile` fuses the norms with torch.compile (same numbers)."""

    def __init__(self, vae: AutoencoderKLWan, *, compile: bool = False) -> None:
        self.vae = vae
        self.norm_silu = torch.compile(_norm_silu, dynamic=True) if compile else _norm_silu

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [b, 3, 1 + 4k, h, w] in -1..1 to the posterior's mean and log variance, each [b, z, 1 + k, h/8, w/8]."""
        net = self.vae.encoder
        x = _conv(net.conv_in, _patchify(pixels, self.vae.config.patch_size))
        for layer in net.down_blocks:
            x = self._layer(layer, x)
        x = _conv(net.conv_out, self._act(net.norm_out, self._mid(net.mid_block, x)))
        mean, logvar = _conv(self.vae.quant_conv, x).float().chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [b, z, 1 + k, h, w] to pixels [b, 3, 1 + 4k, 8h, 8w]; not clamped, so that gradients survive."""
        net = self.vae.decoder
        x = self._mid(net.mid_block, _conv(net.conv_in, _conv(self.vae.post_quant_conv, latents)))
        for block in net.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x)
            if block.upsamplers is not None:
                x = _up(block.upsamplers[0], x)
        x = _conv(net.conv_out, self._act(net.norm_out, x))
        return _unpatchify(x.float(), self.vae.config.patch_size)

    def _act(self, norm: wan.WanRMS_norm, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        rows = self.norm_silu(last.reshape(-1, x.shape[1]), norm.gamma.flatten())
        return rows.view(last.shape).movedim(-1, 1)

    def _resnet(self, block: wan.WanResidualBlock, x: Tensor) -> Tensor:
        shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else _conv(block.conv_shortcut, x)
        x = _conv(block.conv1, self._act(block.norm1, x))
        return shortcut + _conv(block.conv2, self._act(block.norm2, x))

    def _mid(self, block: wan.WanMidBlock, x: Tensor) -> Tensor:
        x = self._resnet(block.resnets[0], x)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            x = self._resnet(resnet, _attention(attention, x))
        return x

    def _layer(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, wan.WanResidualBlock):
            return self._resnet(layer, x)
        if isinstance(layer, wan.WanAttentionBlock):
            return _attention(layer, x)
        return _down(layer, x)


def _patchify(x: Tensor, patch: int | None) -> Tensor:
    x = wan.patchify(x, patch) if patch else x
    return x.contiguous(memory_format=torch.channels_last_3d)


def _unpatchify(x: Tensor, patch: int | None) -> Tensor:
    return wan.unpatchify(x.contiguous(), patch) if patch else x


def _conv(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A causal convolution over the whole clip: zeros stand before the first frame."""
    taps, height = conv.weight.shape[2], conv.weight.shape[3]
    space = height // 2
    if x.shape[2] == 1:  # one frame meets the last tap only: a plain picture convolution, three times cheaper
        return F.conv2d(x[:, :, 0], conv.weight[:, :, -1], conv.bias, padding=space).unsqueeze(2)
    if taps > 1:
        x = F.pad(x, (0, 0, 0, 0, taps - 1, 0))
    return F.conv3d(x, conv.weight, conv.bias, padding=(0, space, space))


def _norm(norm: wan.WanRMS_norm, x: Tensor) -> Tensor:
    """Root-mean-square norm over channels, in the layout where channels are innermost."""
    last = x.movedim(1, -1)
    return F.rms_norm(last, (x.shape[1],), norm.gamma.flatten().to(x.dtype), 1e-12).movedim(-1, 1)


def _norm_silu(rows: Tensor, gamma: Tensor) -> Tensor:
    """SiLU of the root-mean-square norm of rows [n, c], computed in float32."""
    x = rows.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-12) * gamma
    return F.silu(x).to(rows.dtype)


def _attention(block: wan.WanAttentionBlock, x: Tensor) -> Tensor:
    """Self-attention inside each frame, one head."""
    b, _, t, h, w = x.shape
    rows = _norm(block.norm, _frames(x)).movedim(1, -1).flatten(1, 2)
    weight, bias = block.to_qkv.weight.flatten(1), block.to_qkv.bias
    q, k, v = F.linear(rows, weight, bias).chunk(3, dim=-1)
    rows = F.scaled_dot_product_attention(q, k, v)
    rows = F.linear(rows, block.proj.weight.flatten(1), block.proj.bias)
    update: Tensor = rows.unflatten(1, (h, w)).movedim(-1, 1).unflatten(0, (b, t)).movedim(1, 2)
    return x + update


def _down(layer: wan.WanResample, x: Tensor) -> Tensor:
    x = _spatial(layer.resample, x)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        conv = layer.time_conv
        x = torch.cat((x[:, :, :1], F.conv3d(x, conv.weight, conv.bias, stride=(2, 1, 1)).to(x.dtype)), dim=2)
    return x


def _up(layer: wan.WanResample, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        conv, rest = layer.time_conv, x[:, :, 1:]
        rest = F.conv3d(F.pad(rest, (0, 0, 0, 0, 2, 0)), conv.weight, conv.bias)
        pair = rest.unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        x = torch.cat((x[:, :, :1], pair.to(x.dtype)), dim=2).contiguous(memory_format=torch.channels_last_3d)
    return _spatial(layer.resample, x)


def _spatial(resample: nn.Module, x: Tensor) -> Tensor:
    """Apply a picture layer to every frame."""
    b = x.shape[0]
    resampled: Tensor = resample(_frames(x)).unflatten(0, (b, -1)).movedim(1, 2)
    return resampled


def _frames(x: Tensor) -> Tensor:
    """[b, c, t, h, w] as pictures [b t, c, h, w]."""
    return x.movedim(2, 1).flatten(0, 1)
