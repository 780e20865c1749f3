"""One-pass encode and decode of an `AutoencoderKLWan`, for training and for small clips on a CPU: no feature cache.

diffusers runs the causal autoencoder chunk by chunk, remembering the last frames of every layer; that is slow to train
through, and on a CPU small chunks fall to PyTorch's slow 3D convolution. Over a whole clip the same numbers come from plain
causal convolutions, if two quirks are kept: the temporal down-sampling passes the first frame by, and the temporal
up-sampling neither doubles the first frame nor looks at it.

Shapes: b batch, c channels, t frames, h rows, w columns.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor, nn

WIDEST_BYTES = 64 << 20
"""Of one layer's float32 activations, of which some six are held at once: a larger clip (of the embedded model, one of more than
680 frames at 64x64) is left to diffusers' chunks, whose memory does not grow with it."""
EXACT = 1e-30
"""For `eps` where nothing is trained: nothing, but for vectors that are 0, which stay so."""
SLOW_BELOW = 20480
"""batch x channels x frames x rows up to which PyTorch convolves in 3D on a CPU by its slow loop (a heuristic of its own)."""


def one_pass_fits(vae: Any, pixels: int, like: Tensor) -> bool:
    """Whether a clip of so many `pixels` (frames x rows x columns) may go through `OnePass` instead of the VAE's own methods.

    Where that is faster and the same: on the CPU (`like` is the input), in float32, for a small clip, in an autoencoder of
    the Wan 2.1 kind into whose modules nobody has hooked and which is not to work in tiles.
    """
    if not isinstance(vae, AutoencoderKLWan) or vae.use_tiling or vae.config.is_residual:
        return False
    if like.device.type != "cpu" or vae.dtype != torch.float32 or vae.device.type != "cpu":
        return False
    config, patch = vae.config, vae.config.patch_size or 1
    width = max(config.base_dim, config.decoder_base_dim or 0)
    return 4 * width * pixels // patch**2 <= WIDEST_BYTES and not any(map(_is_hooked, vae.modules()))


def _is_hooked(module: nn.Module) -> bool:
    """Whether something waits for this module to be called, or brings its weights only then."""
    own = vars(module)
    if own["_forward_hooks"] or own["_forward_pre_hooks"] or "_diffusers_hook" in own:
        return True
    if "_hf_hook" in own:  # offloading by component; where that is to the CPU, the weights are there already
        device = getattr(own["_hf_hook"], "execution_device", None)
        return device is None or torch.device(device).type != "cpu"
    # A hook that was taken off again leaves the class's own method behind.
    replaced = [name for name in ("forward", "encode", "decode") if name in own]
    return any(own[name] != MethodType(getattr(type(module), name), module) for name in replaced)


class OnePass:
    """The autoencoder's two directions over whole clips. `compile` fuses the norms with torch.compile (same numbers).

    `eps` is added to a norm's mean square: training wants more than diffusers has, lest gradients explode where all is 0.
    """

    def __init__(self, vae: AutoencoderKLWan, *, compile: bool = False, eps: float = 1e-12) -> None:
        self.vae, self.eps = vae, eps
        self.norm_silu = torch.compile(_norm_silu, dynamic=True) if compile else _norm_silu

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [b, 3, 1 + 4k, h, w] in -1..1 to the posterior's mean and log variance, each [b, z, 1 + k, h/8, w/8].

        Frames beyond 1 + 4k are dropped, as diffusers does.
        """
        net = self.vae.encoder
        pixels = pixels[:, :, : (pixels.shape[2] - 1) // 4 * 4 + 1]
        x = _conv(net.conv_in, _patchify(pixels, self.vae.config.patch_size))
        for layer in net.down_blocks:
            x = self._layer(layer, x)
        x = _conv(net.conv_out, self._act(net.norm_out, self._mid(net.mid_block, x)))
        mean, logvar = _conv(self.vae.quant_conv, x).float().chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [b, z, 1 + k, h, w] to pixels [b, 3, 1 + 4k, 8h, 8w]; not clamped, so that gradients survive."""
        net = self.vae.decoder
        x = latents.contiguous(memory_format=torch.channels_last_3d)
        x = self._mid(net.mid_block, _conv(net.conv_in, _conv(self.vae.post_quant_conv, x)))
        for block in net.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x)
            if block.upsamplers is not None:
                x = _up(block.upsamplers[0], x)
        x = _conv(net.conv_out, self._act(net.norm_out, x))
        return _unpatchify(x.float(), self.vae.config.patch_size)

    def _act(self, norm: wan.WanRMS_norm, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        rows = self.norm_silu(last.reshape(-1, x.shape[1]), norm.gamma.flatten(), self.eps)
        return rows.view(last.shape).movedim(-1, 1)

    def _resnet(self, block: wan.WanResidualBlock, x: Tensor) -> Tensor:
        shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else _conv(block.conv_shortcut, x)
        x = _conv(block.conv1, self._act(block.norm1, x))
        return shortcut + _conv(block.conv2, self._act(block.norm2, x))

    def _mid(self, block: wan.WanMidBlock, x: Tensor) -> Tensor:
        x = self._resnet(block.resnets[0], x)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            x = self._resnet(resnet, _attention(attention, x, self.eps))
        return x

    def _layer(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, wan.WanResidualBlock):
            return self._resnet(layer, x)
        if isinstance(layer, wan.WanAttentionBlock):
            return _attention(layer, x, self.eps)
        return _down(layer, x)


def _patchify(x: Tensor, patch: int | None) -> Tensor:
    x = wan.patchify(x, patch) if patch else x
    return x.contiguous(memory_format=torch.channels_last_3d)


def _unpatchify(x: Tensor, patch: int | None) -> Tensor:
    return wan.unpatchify(x.contiguous(), patch) if patch else x


def _conv(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A causal convolution over the whole clip: zeros stand before the first frame."""
    taps, height = conv.weight.shape[2], conv.weight.shape[3]
    space, frames = height // 2, x.shape[2]
    if frames == 1:  # one frame meets the last tap only: a plain picture convolution, three times cheaper
        return F.conv2d(x[:, :, 0], conv.weight[:, :, -1], conv.bias, padding=space).unsqueeze(2)
    if not x.is_cpu:
        x = F.pad(x, (0, 0, 0, 0, taps - 1, 0))
        return F.conv3d(x, conv.weight, conv.bias, padding=(0, space, space))
    if x.shape[:4].numel() <= SLOW_BELOW:
        return _conv_of_stacked_frames(conv, x)
    # Zeros on both sides and the end cut off: on a CPU the copy that pads one side costs more than two frames.
    return F.conv3d(x, conv.weight, conv.bias, padding=(taps - 1, space, space))[:, :, :frames]


def _conv_of_stacked_frames(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """The same as a picture convolution, whose channels are those of all the frames that a tap meets."""
    taps, frames = conv.weight.shape[2], x.shape[2]
    padded = F.pad(x, (0, 0, 0, 0, taps - 1, 0))
    stacked = torch.cat([padded[:, :, tap : tap + frames] for tap in range(taps)], dim=1)
    weight = conv.weight.transpose(1, 2).flatten(1, 2)
    pictures = F.conv2d(_frames(stacked), weight, conv.bias, padding=conv.weight.shape[3] // 2)
    together: Tensor = pictures.unflatten(0, (x.shape[0], frames)).movedim(1, 2)
    return together


def _norm(norm: wan.WanRMS_norm, x: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over channels, in the layout where channels are innermost."""
    last = x.movedim(1, -1)
    return F.rms_norm(last, (x.shape[1],), norm.gamma.flatten().to(x.dtype), eps).movedim(-1, 1)


def _norm_silu(rows: Tensor, gamma: Tensor, eps: float) -> Tensor:
    """SiLU of the root-mean-square norm of rows [n, c], computed in float32."""
    x = rows.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gamma
    return F.silu(x).to(rows.dtype)


def _attention(block: wan.WanAttentionBlock, x: Tensor, eps: float) -> Tensor:
    """Self-attention inside each frame, one head."""
    b, _, t, h, w = x.shape
    rows = _norm(block.norm, _frames(x), eps).movedim(1, -1).flatten(1, 2)
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
        rest = _conv(conv, rest)
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
