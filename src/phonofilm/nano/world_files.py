"""The world as files: mp4 clips with captions in the training manifest's format, and the hidden truth beside each clip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.media import Clip, save_clip
from phonofilm.nano.world import WorldClip, make_clip

WORLD_MANIFEST = "metadata.json"


def as_clip(world: WorldClip) -> Clip:
    """The seen and heard part of a world clip: one channel of sound, and the caption as the prompt."""
    return Clip(
        frames=world.frames,
        frame_rate=world.frame_rate,
        audio=world.audio[None],
        sampling_rate=world.sampling_rate,
        metadata={"prompt": world.caption},
    )


def hidden_state(world: WorldClip) -> dict[str, Any]:
    """Seed, attributes and event times as JSON values. For measuring only: no training reads it."""
    events = [asdict(event) for event in world.events]
    return {"seed": world.seed, "attributes": dict(world.attributes), "events": events}


def export_world(
    folder: Path,
    count: int,
    *,
    first_seed: int = 0,
    scene: str | None = None,
    size: int = 64,
    num_frames: int = 49,
) -> Iterator[Path]:
    """Write `count` clips of consecutive seeds into `folder`, yielding each one's path as it is done.

    Beside NAME.mp4 stand NAME.txt (the caption) and NAME.json (the hidden state); metadata.json lists
    {"path", "caption"} of all of them, and is written last. Raises InputError for a folder that has a manifest already.
    """
    if count < 1:
        raise InputError(f"{count} clips were asked for; ask for 1 or more")
    manifest = folder / WORLD_MANIFEST
    if manifest.exists():
        raise InputError(f"{manifest} exists; choose another folder, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for seed in range(first_seed, first_seed + count):
        world = make_clip(seed, scene=scene, size=size, num_frames=num_frames)
        path = folder / f"{world.attributes['scene']}-{seed:08d}.mp4"
        save_clip(as_clip(world), path)
        path.with_suffix(".txt").write_text(world.caption + "\n", encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(hidden_state(world), indent=1) + "\n", encoding="utf-8")
        entries.append({"path": path.name, "caption": world.caption})
        yield path
    manifest.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
