"""A fingerprint that tells a checkpoint from others without reading all of its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from phonofilm.models.checkpoint_files import MODEL_INDEX
from phonofilm.models.layout import CheckpointLayout

SAMPLES, SAMPLE_BYTES = 64, 1024


def fingerprint(layout: CheckpointLayout) -> str:
    """Hash of the configs, of every weight file's table of tensors, and of a few KiB sampled all over each file.

    Cheap at any size, and yet two trainings of one architecture differ in it.
    """
    digest = hashlib.sha256((layout.folder / MODEL_INDEX).read_bytes())
    for name, component in sorted(layout.components.items()):
        digest.update(name.encode())
        digest.update((component.folder / "config.json").read_bytes())
        for key, entry in sorted(component.entries.items()):
            digest.update(f"{key} {entry.dtype} {entry.shape}".encode())
        for file in sorted({entry.file for entry in component.entries.values()}):
            _update_with_samples(digest, file)
    return digest.hexdigest()[:32]


def _update_with_samples(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with file.open("rb") as stream:
        for index in range(SAMPLES):
            stream.seek(index * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
