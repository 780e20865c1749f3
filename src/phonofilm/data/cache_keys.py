"""What a cached item depends on, as a hash: the same key means the same latents, and anything that changes them changes it.

A key holds the bytes of the clip (not its name or date), the window, how it is transformed, and the network's weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

from phonofilm.data.windows import Bucket, ClipWindow
from phonofilm.files import file_hash
from phonofilm.models.layout import CheckpointLayout

# To be raised whenever the way from a window to its latents changes.
CACHE_FORMAT = 1
AUTOENCODERS = ("video_vae", "audio_vae")


def component_hash(layout: CheckpointLayout, name: str) -> str:
    """Hash of a network: its config and every byte of its weight files."""
    component = layout.components[name]
    files = [component.folder / "config.json", *sorted({entry.file for entry in component.entries.values()})]
    return _joined(*(file_hash(file) for file in files))


def autoencoder_hash(layout: CheckpointLayout) -> str:
    return _joined(*(component_hash(layout, name) for name in AUTOENCODERS))


def text_hash(layout: CheckpointLayout) -> str:
    """Hash of what turns a caption into embeddings: the encoder and the tokenizer."""
    return _joined(component_hash(layout, "text_encoder"), file_hash(layout.folder / "tokenizer" / "tokenizer.json"))


def latent_key(window: ClipWindow, autoencoders: str, hash_of: Callable[[Path], str]) -> str:
    """The key of a window's latents. `hash_of` gives a file's hash, so that a clip of many windows is read once."""
    audio = window.item.audio
    facts = {
        "format": CACHE_FORMAT,
        "file": hash_of(window.item.file),
        "audio": None if audio is None else hash_of(audio),
        "has_audio": window.has_audio,
        "start": str(window.start),
        "bucket": str(window.bucket),
        "frame_rate": str(window.frame_rate),
        "fit": "crop",
        "autoencoders": autoencoders,
    }
    return _joined(json.dumps(facts, sort_keys=True))


def white_key(bucket: Bucket, frame_rate: Fraction, autoencoders: str) -> str:
    """The key of a white first frame's condition."""
    return _joined(str(CACHE_FORMAT), "white", str(bucket), str(frame_rate), autoencoders)


def given_key(files: Sequence[Path], bucket: Bucket, frame_rate: Fraction, autoencoders: str) -> str:
    """The key of the condition of a first frame, or of a first and a last one."""
    parts = [str(CACHE_FORMAT), "given", *map(file_hash, files), str(bucket), str(frame_rate), autoencoders]
    return _joined(*parts)


def text_key(caption: str, text: str) -> str:
    """The key of a caption's embeddings; `caption` is cleaned as the pipeline cleans it."""
    return _joined(str(CACHE_FORMAT), caption, text)


def remembering_hashes() -> Callable[[Path], str]:
    """`file_hash` that reads each file once."""
    return cache(file_hash)


def _joined(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:40]
