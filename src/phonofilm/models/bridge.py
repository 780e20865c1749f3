"""The bridge: cross-attention between the towers in both directions, on the shared clock.

Shapes: b batch, n video tokens on a grid (f, h, w), m audio tokens, dv / da tower widths, e head width.
a2v: from sound to picture (queries from video). v2a: from picture to sound (queries from audio).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.geometry import clock_positions
from phonofilm.kernels import ops
from phonofilm.models.eight_bit_rows import Fp8Rows
from phonofilm.models.fused_norms import norm_for
from phonofilm.models.layers import Attention, attention
from phonofilm.models.quantized import quantized_once
from phonofilm.models.rotary import ROPE_THETA, rotate_halves
from phonofilm.models.video import Grid


@dataclass(frozen=True)
class Clock:
    """Cosines and sines of every token's place on the shared clock: video [n,e], audio [m,e], float32."""

    video_cos: Tensor
    video_sin: Tensor
    audio_cos: Tensor
    audio_sin: Tensor

    def to(self, device: torch.device) -> Clock:
        return Clock(*(t.to(device) for t in (self.video_cos, self.video_sin, self.audio_cos, self.audio_sin)))


@dataclass(frozen=True)
class BridgeScale:
    """Strength of each direction, multiplied with the bridge's own scale: a number, or one per sample [b]. 0 is off."""

    a2v: float | Tensor = 1.0
    v2a: float | Tensor = 1.0

    @property
    def is_off(self) -> bool:
        return _is_zero(self.a2v) and _is_zero(self.v2a)


def interaction_layers(strategy: str, video_layers: int, audio_layers: int) -> tuple[int, ...]:
    """The layers before which the towers talk. Raises CheckpointError for an unknown strategy."""
    shared = min(video_layers, audio_layers)
    match strategy:
        case "full":
            layers = range(shared)
        case "shallow_focus":
            layers = range(min(10, shared // 3))
        case "distributed":
            layers = range(0, shared, 3)
        case "progressive":
            return (*range(min(8, shared)), *range(8, shared, 3))
        case "custom":
            return tuple(i for i in (0, 2, 4, 6, 8, 12, 16, 20) if i < shared)
        case _:
            raise CheckpointError(
                f"bridge config has interaction_strategy={strategy!r}; "
                "expected full, shallow_focus, distributed, progressive or custom"
            )
    return tuple(layers)


class CrossAttention(Attention):
    """x [b,n,d] attends to y [b,m,dy]; rotations of both sides [.,e], or None for a bridge without a clock -> [b,n,d]."""

    def forward(self, x: Tensor, y: Tensor | Fp8Rows, x_turn: _Turn | None, y_turn: _Turn | None) -> Tensor:
        y = quantized_once(y, self.k, self.v)
        q = self._normed_and_rotated(self.q(x), self.norm_q, x_turn)
        k = self._normed_and_rotated(self.k(y), self.norm_k, y_turn)
        result: Tensor = self.o(self.attend(q, k, self.v(y), self.heads))
        return result

    def _normed_and_rotated(self, projected: Tensor, norm: nn.RMSNorm, turn: _Turn | None) -> Tensor:
        if turn is not None and self.fused:
            rotated: Tensor = ops.norm_rotate_halves(projected, norm.weight, *turn, self.eps)
            return rotated
        normed: Tensor = norm(projected)
        if turn is None:
            return normed
        return rotate_halves(normed, *turn)


class PooledAttention(nn.Module):
    """Multi-head attention with fused input projections, as `torch.nn.MultiheadAttention` names its weights."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """query [1,1,d], tokens [g,s,d] -> [g,1,d]."""
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        q = F.linear(query, wq, bq).expand(tokens.shape[0], -1, -1)
        result: Tensor = self.out_proj(attention(q, F.linear(tokens, wk, bk), F.linear(tokens, wv, bv), self.heads))
        return result


class PerFramePooling(nn.Module):
    """Each frame's tokens pooled to one vector by a learned query: [b, f*h*w, d] -> [b, f, d]."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.attention = PooledAttention(dim, heads)
        self.layernorm = nn.LayerNorm(dim, eps=eps)

    def forward(self, video: Tensor, grid: Grid) -> Tensor:
        frames = video.reshape(video.shape[0] * grid[0], grid[1] * grid[2], -1)
        result: Tensor = self.layernorm(self.attention(self.probe, frames).reshape(video.shape[0], grid[0], -1))
        return result


class AdaLayerNorm(nn.Module):
    """An affine-free LayerNorm of x [b,m,d] whose scale and shift come from `pooled` [b,m,dy]."""

    def __init__(self, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_dim, 2 * dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5, elementwise_affine=False)

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        scale, shift = self.linear(F.silu(pooled)).chunk(2, dim=-1)
        result: Tensor = self.norm(x) * (1 + scale) + shift
        return result


class Conditioner(nn.Module):
    """One direction of the bridge at one layer: the update of x [b,n,d] that attends to y [b,m,dy] -> [b,n,d]."""

    def __init__(self, dim: int, kv_dim: int, head_dim: int, pooled_adaln: bool, eps: float = 1e-6) -> None:
        super().__init__()
        heads = dim // head_dim
        self.y_norm = nn.LayerNorm(kv_dim, eps=eps)
        self.inner = CrossAttention(dim, heads, eps, kv_dim=kv_dim)
        self.per_frame_pooling = PerFramePooling(kv_dim, heads, eps) if pooled_adaln else None
        self.adaln = AdaLayerNorm(dim, kv_dim) if pooled_adaln else None

    def forward(self, x: Tensor, y: Tensor, x_turn: _Turn | None, y_turn: _Turn | None, grid: Grid) -> Tensor:
        if self.per_frame_pooling is not None and self.adaln is not None:
            pooled = self.per_frame_pooling(y, grid)
            if pooled.shape[1] != x.shape[1]:
                pooled = F.interpolate(pooled.transpose(1, 2), size=x.shape[1], mode="linear").transpose(1, 2)
            x = self.adaln(x, pooled)
        result: Tensor = self.inner(x, self._normed(y), x_turn, y_turn)
        return result

    def _normed(self, y: Tensor) -> Tensor | Fp8Rows:
        if not self.inner.fused:
            result: Tensor | Fp8Rows = self.y_norm(y)
            return result
        weight, bias = self.y_norm.weight[None, None], self.y_norm.bias[None, None]
        return norm_for([self.inner.k, self.inner.v], y, bias, weight, self.y_norm.eps)


class DualTowerConditionalBridge(ModelMixin, ConfigMixin):
    """Both directions of cross-attention before each interacting layer. Constructor arguments are config.json's keys."""

    _no_split_modules = ["Conditioner"]  # noqa: RUF012 - diffusers reads a plain list
    _repeated_blocks = ["Conditioner"]  # noqa: RUF012

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        visual_layers: int = 30,
        audio_layers: int = 30,
        visual_hidden_dim: int = 3072,
        audio_hidden_dim: int = 1536,
        audio_fps: float = 44100.0 / 2048.0,
        head_dim: int = 128,
        interaction_strategy: str = "shallow_focus",
        apply_cross_rope: bool = False,
        apply_first_frame_bias_in_rope: bool = False,
        trainable_condition_scale: bool = False,
        pooled_adaln: bool = False,
    ) -> None:
        super().__init__()
        self.interaction_layers = interaction_layers(interaction_strategy, visual_layers, audio_layers)
        self.condition_scale = nn.Parameter(torch.ones(1)) if trainable_condition_scale else None
        self.audio_to_video_conditioners = nn.ModuleDict(
            {
                str(i): Conditioner(visual_hidden_dim, audio_hidden_dim, head_dim, pooled_adaln=False)
                for i in self.interaction_layers
            }
        )
        self.video_to_audio_conditioners = nn.ModuleDict(
            {
                str(i): Conditioner(audio_hidden_dim, visual_hidden_dim, head_dim, pooled_adaln=pooled_adaln)
                for i in self.interaction_layers
            }
        )

    def clock(self, grid: Grid, audio_tokens: int, frame_rate: float) -> Clock | None:
        """Every token's place on the shared clock, on the host; None for a bridge without cross RoPE."""
        if not self.config["apply_cross_rope"]:
            return None
        frames = clock_positions(
            grid[0],
            frame_rate,
            self.config["audio_fps"],
            first_frame_bias=self.config["apply_first_frame_bias_in_rope"],
        )
        video_cos, video_sin = _clock_table(np.repeat(frames, grid[1] * grid[2]), self.config["head_dim"])
        audio_cos, audio_sin = _clock_table(np.arange(audio_tokens, dtype=np.float32), self.config["head_dim"])
        return Clock(video_cos, video_sin, audio_cos, audio_sin)

    def forward(
        self, layer: int, video: Tensor, audio: Tensor, clock: Clock | None, grid: Grid, scale: BridgeScale
    ) -> tuple[Tensor, Tensor]:
        """video [b,n,dv], audio [b,m,da] -> the same, each updated from the other's state before either update."""
        key = str(layer)
        v_turn = None if clock is None else (clock.video_cos, clock.video_sin)
        a_turn = None if clock is None else (clock.audio_cos, clock.audio_sin)
        video_update = audio_update = None
        if not _is_zero(scale.a2v):
            video_update = self.audio_to_video_conditioners[key](video, audio, v_turn, a_turn, grid)
        if not _is_zero(scale.v2a):
            audio_update = self.video_to_audio_conditioners[key](audio, video, a_turn, v_turn, grid)
        return self._add(video, video_update, scale.a2v), self._add(audio, audio_update, scale.v2a)

    def _add(self, state: Tensor, update: Tensor | None, scale: float | Tensor) -> Tensor:
        if update is None:
            return state
        if self.condition_scale is not None:
            scale = self.condition_scale * scale
        if isinstance(scale, Tensor):
            return torch.addcmul(state, update, scale.to(update).reshape(-1, 1, 1))
        return torch.add(state, update, alpha=scale)


_Turn = tuple[Tensor, Tensor]


def _clock_table(positions: np.ndarray, head_dim: int) -> _Turn:
    """Cosine and sine [len(positions), head_dim], evaluated in float32: the precision the released bridge was trained with."""
    inverse = 1.0 / (ROPE_THETA ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    phase = torch.from_numpy(positions)[:, None] * inverse[None, :]
    phase = torch.cat((phase, phase), dim=-1)
    return phase.cos(), phase.sin()


def _is_zero(scale: float | Tensor) -> bool:
    return not isinstance(scale, Tensor) and scale == 0
