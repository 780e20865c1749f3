"""A checkpoint before its weights are read: its facts, its tokenizer, and a fingerprint that tells it from others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from phonofilm.generation.loras import LoraFiles
from phonofilm.generation.provenance import portable_path
from phonofilm.geometry import ClipGeometry
from phonofilm.models.building import config_with_defaults
from phonofilm.models.fingerprint import fingerprint
from phonofilm.models.hub import resolve_model
from phonofilm.models.known import KNOWN_MODELS, NAMED_SIZES
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.loading import load_tokenizer
from phonofilm.models.quantized import CONFIG_KEY
from phonofilm.pipeline.call_arguments import Defaults, default_geometry
from phonofilm.pipeline.few_steps import few_steps_from
from phonofilm.pipeline.sampling_plan import ModelFacts
from phonofilm.pipeline.schedule import FlowMatchPairScheduler

DEFAULT_MODEL = "nano"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that has passed every check that needs no weights. `name` is the name it was requested by."""

    name: str
    layout: CheckpointLayout

    @property
    def portable_name(self) -> str:
        """`name` without the folders of this machine; a local folder ends with a slash, which no hub id does."""
        short = any(known.name == self.name for known in KNOWN_MODELS)
        return f"{portable_path(Path(self.name))}/" if not short and Path(self.name).is_dir() else self.name

    @cached_property
    def defaults(self) -> Defaults:
        stored = self.layout.scalars.defaults
        released = [known.name for known in KNOWN_MODELS if self.name in (known.name, known.hub_id)]
        if stored is None and released and released[0] in NAMED_SIZES:
            height, width = NAMED_SIZES[released[0]]
            return Defaults(height=height, width=width)
        return Defaults(**(stored or {}))

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.layout)

    @cached_property
    def loras(self) -> LoraFiles:
        return LoraFiles(self.layout)

    @cached_property
    def experts(self) -> int:
        return sum(name in self.layout.components for name in ("video_dit", "video_dit_2"))

    @cached_property
    def geometry(self) -> ClipGeometry:
        """The sizes of a clip with no options set, in the checkpoint's own units."""
        networks = (self.layout.components[name] for name in ("video_vae", "audio_vae", "video_dit"))
        return default_geometry(self.defaults, *(config_with_defaults(one.class_name, one.config) for one in networks))

    @cached_property
    def facts(self) -> ModelFacts:
        """What planning a clip needs to know."""
        return ModelFacts(
            self.geometry,
            self.defaults,
            FlowMatchPairScheduler(**self.layout.scheduler_config),
            self.layout.scalars.boundary_ratio,
            self.experts,
            self.tokenizer,
            few_steps_from(stored, self.name) if (stored := self.layout.scalars.few_steps) is not None else None,
        )

    def weight_bytes(self, bytes_per_value: int) -> int:
        """Bytes of all weights at that precision."""
        return sum(self.component_bytes(name, bytes_per_value) for name in self.layout.components)

    def component_bytes(self, name: str, bytes_per_value: int) -> int:
        """Bytes of one network's weights at that precision; the sound's decoder always runs in float32."""
        component = self.layout.components[name]
        each = 4 if name == "audio_vae" else bytes_per_value
        quantized = CONFIG_KEY in component.config
        return sum(
            entry.nbytes if quantized and entry.dtype.itemsize == 1 else math.prod(entry.shape) * each
            for entry in component.entries.values()
        )

    @cached_property
    def fingerprint(self) -> str:
        """Tells it from other checkpoints, cheaply: see models/fingerprint.py."""
        return fingerprint(self.layout)


def open_checkpoint(name: str) -> Checkpoint:
    """A folder, a hub id or a short name; downloads what is not here yet. Raises CheckpointError for whatever is wrong."""
    return Checkpoint(name, read_layout(resolve_model(name)))
