"""What is measured, in order of value. Nothing here imports what it takes to measure it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Skipped(Exception):
    """Raised by a stage that cannot be measured here, with the reason; no failure."""


@dataclass(frozen=True)
class Stage:
    """One thing to measure. `expected` and `limit`: seconds at 360p on an H100, predicted, and after which it is ended.

    entry: "module:function" in benchmarks.gpu, called with a Context.
    """

    name: str
    entry: str
    expected: int
    limit: int


STAGES = (
    Stage("machine", "machine:describe", 12, 40),
    Stage("eager", "steps:eager", 22, 60),
    Stage("fused", "steps:fused", 24, 60),
    Stage("products", "ceilings:products", 4, 30),
    Stage("kernels", "kernels:compare", 10, 40),
    Stage("profile", "profile:one_step", 16, 50),
    Stage("attention", "attention:candidates", 22, 60),
    Stage("fp8-products", "ceilings:fp8_products", 3, 30),
    Stage("streamed", "offloads:streamed", 50, 100),
    Stage("streamed-3-slots", "offloads:streamed_3_slots", 30, 70),
    Stage("fp8", "offloads:fp8", 28, 70),
    Stage("fp8-streamed", "offloads:fp8_streamed", 32, 70),
    Stage("training", "training:micro_steps", 60, 110),
    Stage("tests", "pytests:run", 55, 110),
    Stage("clip", "clip:generate", 14, 50),
    Stage("decoding", "decoding:decode", 36, 80),
    Stage("compiled", "steps:compiled", 55, 100),
    Stage("720p", "steps:one_forward_720p", 50, 80),
    Stage("group-offload", "offloads:group", 45, 90),
    Stage("model-offload", "offloads:model", 22, 60),
)
# A step at 720p is eleven times one at 360p; a host that tries the stages may be busy.
SLOWER = {"720p": 11, "tiny": 5}


def stages_named(names: Sequence[str]) -> tuple[Stage, ...]:
    """Those named, in order of value; all of them by default. Raises ValueError for a name there is not."""
    known = [stage.name for stage in STAGES]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"stage {', '.join(unknown)} is unknown; use {', '.join(known)}")
    return tuple(stage for stage in STAGES if not names or stage.name in names)
