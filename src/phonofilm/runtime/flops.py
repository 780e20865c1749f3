"""How many FLOPs one joint forward takes, written out from the configs: the formula the counters are held against.

Two FLOPs per multiply-add; matrix products, convolutions and attention only. One sample.

Letters: d width, f feed-forward width, n video tokens, m audio tokens, l text positions, v and a for the two towers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from phonofilm.models.joint import JointDenoiser
from phonofilm.models.tower import Tower


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of one joint forward of one sample, by part. `rest` is embeddings and heads of both towers."""

    video_linears: int
    video_self_attention: int
    video_text_attention: int
    bridge_linears: int
    bridge_attention: int
    audio_blocks: int
    rest: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def forward_flops(denoiser: JointDenoiser, video_tokens: int, audio_tokens: int, text_tokens: int) -> ForwardFlops:
    """The FLOPs of `denoiser` from its configs. Not for the pooled-AdaLN variant of the bridge."""
    n, m = video_tokens, audio_tokens
    v, a = denoiser.video.config["dim"], denoiser.audio.config["dim"]
    # Each direction: q and o on the listener's tokens, k and v from the speaker's.
    a2v_linears = 2 * (n * 2 * v * v + m * 2 * a * v)
    v2a_linears = 2 * (m * 2 * a * a + n * 2 * v * a)
    layers = len(denoiser.bridge.interaction_layers)
    return ForwardFlops(
        video_linears=_block_linears(denoiser.video, n, text_tokens),
        video_self_attention=len(denoiser.video.blocks) * _attention(n, n, v),
        video_text_attention=len(denoiser.video.blocks) * _attention(n, text_tokens, v),
        bridge_linears=layers * (a2v_linears + v2a_linears),
        bridge_attention=layers * (_attention(n, m, v) + _attention(m, n, a)),
        audio_blocks=_block_linears(denoiser.audio, m, text_tokens)
        + len(denoiser.audio.blocks) * (_attention(m, m, a) + _attention(m, text_tokens, a)),
        rest=_embeddings_and_head(denoiser.video, n, text_tokens)
        + _embeddings_and_head(denoiser.audio, m, text_tokens),
    )


def _attention(queries: int, keys: int, width: int) -> int:
    """Scores, then the weighted sum of values: each queries * keys * width multiply-adds."""
    return 2 * 2 * queries * keys * width


def _block_linears(tower: Tower, tokens: int, text_tokens: int) -> int:
    d, f = tower.config["dim"], tower.config["ffn_dim"]
    per_token = 4 * d * d + 2 * d * d + 2 * d * f  # self-attention q, k, v, o; text attention q, o; feed-forward
    per_text_token = 2 * d * d  # text attention k, v
    return int(len(tower.blocks) * 2 * (tokens * per_token + text_tokens * per_text_token))


def _embeddings_and_head(tower: Tower, tokens: int, text_tokens: int) -> int:
    config, d = tower.config, tower.config["dim"]
    patch = math.prod(config["patch_size"])
    patches = tokens * (config["in_dim"] * patch * d + d * config["out_dim"] * patch)
    text = text_tokens * (config["text_dim"] * d + d * d)
    time = config["freq_dim"] * d + d * d + d * 6 * d
    return int(2 * (patches + text + time))
