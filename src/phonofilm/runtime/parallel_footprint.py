"""What each of several devices needs that share one clip, from sizes alone. What they do is parallel/'s."""

from __future__ import annotations

from dataclasses import dataclass

from phonofilm.runtime.footprint import Footprint, reserved_for
from phonofilm.runtime.memory_plan import RESERVE, ClipCost

EXCHANGE_WIDTHS = 6
"""What Ulysses keeps alive beside a forward's own, in units of one state: queries, keys and values, sent and received."""
GATHERED_LAYERS = 2
"""Layers that a device has whole when weights are in parts: the one in use, and the one that is coming."""


@dataclass(frozen=True)
class PerDevice:
    """Bytes that each device needs: with all weights of its own, and with the layers' weights in parts."""

    whole: int
    in_parts: int


def per_device(model: Footprint, work: ClipCost, devices: int) -> PerDevice:
    """For `devices` devices that share the video's tokens (cfg 1). An upper bound, for what is exchanged."""
    tokens = -(-work.video_tokens // devices)
    exchanged = tokens * model.state_bytes_per_token * EXCHANGE_WIDTHS
    working = RESERVE + reserved_for(max(model.working(tokens, work.evaluations) + exchanged, work.decoding))
    outside = model.around + model.text_encoder + model.decoders
    gathered = GATHERED_LAYERS * max(model.layers)
    return PerDevice(model.total + working, outside + -(-(model.total - outside) // devices) + gathered + working)
