"""A checkpoint before its weights are read: its facts, its tokenizer, and a fingerprint that tells it from others."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from phonofilm.generation.loras import LoraFiles
from phonofilm.generation.provenance import portable_path
from phonofilm.geometry import ClipGeometry
from phonofilm.models.building import config_with_defaults
from phonofilm.models.hub import resolve_model
from phonofilm.models.known import KNOWN_MODELS, NAMED_SIZES
from phonofilm.models.layout import MODEL_INDEX, CheckpointLayout, read_layout
from phonofilm.models.loading import load_tokenizer
from phonofilm.models.quantized import CONFIG_KEY
from phonofilm.pipeline.call_arguments import Defaults, default_geometry
from phonofilm.pipeline.few_steps import few_steps_from
from phonofilm.pipeline.sampling_plan import ModelFacts
from phonofilm.pipeline.schedule import FlowMatchPairScheduler

DEFAULT_MODEL = "nano"
SAMPLES, SAMPLE_BYTES = 64, 1024


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
        """Hash of the configs, of every weight file's table of tensors, and of a few KiB sampled all over each file.

        Cheap at any size, and yet two trainings of one architecture differ in it.
        """
        digest = hashlib.sha256((self.layout.folder / MODEL_INDEX).read_bytes())
        for name, component in sorted(self.layout.components.items()):
            digest.update(name.encode())
            digest.update((component.folder / "config.json").read_bytes())
            for key, entry in sorted(component.entries.items()):
                digest.update(f"{key} {entry.dtype} {entry.shape}".encode())
            for file in sorted({entry.file for entry in component.entries.values()}):
                _update_with_samples(digest, file)
        return digest.hexdigest()[:32]


def open_checkpoint(name: str) -> Checkpoint:
    """A folder, a hub id or a short name; downloads what is not here yet. Raises CheckpointError for whatever is wrong."""
    return Checkpoint(name, read_layout(resolve_model(name)))


def _update_with_samples(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with file.open("rb") as stream:
        for index in range(SAMPLES):
            stream.seek(index * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
