"""Did a LoRA learn? The same prompts and start noise without it, with it, and with each of its parts alone, compared.

What is measured here is how far a track moves from the base model's and how well sound and picture agree; whether it moved
to the right place is for eyes and ears. Pages and pictures are made in lora_page.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from phonofilm.data.offset import begins_to_be_seen
from phonofilm.errors import InputError
from phonofilm.evaluation.audio_distances import spectral_distance
from phonofilm.evaluation.sync import LagSummary, match, summarise
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.strength import Strength, strength_of
from phonofilm.media.clip import Clip
from phonofilm.media.onsets import onset_times
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.mova import MovaPipeline

BASE, ALL = "without", "with"
# The components that make each part, by the part's name.
PARTS = {"video": ("video_dit", "video_dit_2"), "audio": ("audio_dit",), "bridge": ("dual_tower_bridge",)}
THUMBNAIL = 32  # pixels a side, for finding when something is seen
PICTURE_CHANGED = 30.0  # dB PSNR: below this the difference is plain to see
SOUND_CHANGED = 2.0  # dB log-mel: above this it is plain to hear
SYNC_MOVED = 0.1  # share of events

CompareProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ComparisonRequest:
    """What to make: every prompt with every seed. `call`: further arguments of the pipeline."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    call: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Distance:
    """Of one clip from the base's with the same prompt and seed. psnr: dB, infinite for the same frames. mel: dB, 0 for the
    same sound."""

    psnr: float
    mel: float


@dataclass(frozen=True)
class Variant:
    """One way to make the clips: base, the whole LoRA, or one part of it. In the order of prompts, then seeds."""

    name: str
    clips: tuple[Clip, ...]
    distances: tuple[Distance, ...]
    sync: LagSummary

    @property
    def psnr(self) -> float:
        """The median clip's."""
        return float(np.median([distance.psnr for distance in self.distances]))

    @property
    def mel(self) -> float:
        return float(np.median([distance.mel for distance in self.distances]))

    @property
    def picture_changed(self) -> bool:
        return self.psnr < PICTURE_CHANGED

    @property
    def sound_changed(self) -> bool:
        return self.mel > SOUND_CHANGED


@dataclass(frozen=True)
class Comparison:
    """Everything that was made. `parts`: those that the LoRA has adapters for, at a strength other than 0."""

    request: ComparisonRequest
    parts: tuple[str, ...]
    variants: tuple[Variant, ...]

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)


def compare(
    pipe: MovaPipeline,
    lora: LoraFile,
    request: ComparisonRequest,
    strength: Strength = 1.0,
    on_progress: CompareProgress | None = None,
) -> Comparison:
    """Make and compare the clips; the pipeline is left without LoRAs.

    Raises InputError when no prompt or seed is given, or the LoRA works on nothing at this strength.
    """
    if not request.prompts or not request.seeds:
        raise InputError("a comparison needs at least one prompt and one seed")
    parts = parts_at_work(lora, strength)
    if not parts:
        raise InputError("at this strength the LoRA changes nothing; there is nothing to compare")
    weights: dict[str, Strength | None] = {BASE: None, ALL: strength}
    if len(parts) > 1:
        weights |= {f"{part} only": _only(part, lora, strength) for part in parts}
    base: list[Clip] = []
    variants = []
    for number, (name, weight) in enumerate(weights.items()):
        if on_progress is not None:
            on_progress(name, number, len(weights))
        clips = _make(pipe, lora, request, weight)
        base = base or clips
        distances = tuple(distance(one, other) for one, other in zip(base, clips, strict=True))
        variants.append(Variant(name, tuple(clips), distances, agreement(clips)))
    return Comparison(request, parts, tuple(variants))


def parts_at_work(lora: LoraFile, strength: Strength) -> tuple[str, ...]:
    """Of video, audio and bridge, those in which the LoRA changes something."""
    return tuple(
        part
        for part, components in PARTS.items()
        if any(c in components and a.norm() and strength_of(strength, c, path) for c, path, a in lora.items())
    )


def distance(base: Clip, other: Clip) -> Distance:
    """Raises InputError for clips of different size."""
    if base.frames.shape != other.frames.shape or base.audio is None or other.audio is None:
        raise InputError("two clips of different size, or without sound, cannot be compared")
    error = float(np.mean((base.frames.astype(np.float32) - other.frames) ** 2))
    psnr = math.inf if error == 0 else 10 * math.log10(255**2 / error)
    one, two = (torch.from_numpy(np.ascontiguousarray(clip.audio.mean(0))) for clip in (base, other))  # type: ignore[union-attr]
    if torch.equal(one, two):
        return Distance(psnr, 0.0)
    if not one.any():  # the distance is relative to a reference that has some sound
        one, two = two, one
    assert base.sampling_rate is not None
    return Distance(psnr, spectral_distance(one, two, base.sampling_rate))


def agreement(clips: Sequence[Clip]) -> LagSummary:
    """How well sounds begin when something begins to be seen, pooled over clips."""
    matchings = [match(seen(clip), heard(clip)) for clip in clips]
    return summarise(matchings, float(1 / clips[0].frame_rate))


def seen(clip: Clip) -> list[float]:
    """Seconds at which something begins to be seen."""
    grey = torch.from_numpy(clip.frames).float().mean(-1)[:, None]
    small = torch.nn.functional.adaptive_avg_pool2d(grey, THUMBNAIL)[:, 0].numpy()
    times = [float(index / clip.frame_rate) for index in range(clip.num_frames)]
    return [float(time) for time in begins_to_be_seen(times, small)]


def heard(clip: Clip) -> list[float]:
    """Seconds at which sounds begin."""
    assert clip.audio is not None
    assert clip.sampling_rate is not None
    return [float(time) for time in onset_times(clip.audio, clip.sampling_rate)]


def _only(part: str, lora: LoraFile, strength: Strength) -> dict[str, float]:
    """The strength with every other part at 0. Directions of the bridge stay as they are."""
    kept = {
        name: float(value)
        for name, value in (strength.items() if isinstance(strength, Mapping) else ())
        if name in {"video": ("video", "high", "low"), "audio": ("audio",), "bridge": ("bridge", "a2v", "v2a")}[part]
    }
    whole = 1.0 if isinstance(strength, Mapping) else float(strength)
    return {**dict.fromkeys(PARTS, 0.0), part: whole, **kept}


def _make(pipe: MovaPipeline, lora: LoraFile, request: ComparisonRequest, weight: Strength | None) -> list[Clip]:
    pipe.unload_lora_weights()
    if weight is not None:
        pipe.load_lora_weights(lora, "compared", weight=weight)
    clips: list[Clip] = []
    for prompt in request.prompts:
        for seed in request.seeds:
            generator = torch.Generator().manual_seed(seed)
            out = pipe(prompt, generator=generator, output_type="pil", **(request.call or {}))
            assert isinstance(out, MovaPipelineOutput)
            clips += out.clips([{"prompt": prompt, "seed": seed}])
    pipe.unload_lora_weights()
    return clips
