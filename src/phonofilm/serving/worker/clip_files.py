"""The pictures that go with a clip, and what is said of it, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonofilm.media import Clip

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_WIDTH = 512
SHEET_COLUMNS, SHEET_ROWS, SHEET_CELL = 5, 5, 256


def clip_facts(clip: Clip) -> dict[str, Any]:
    """What a job's answer says of its clip."""
    return {
        "size": f"{clip.width}x{clip.height}",
        "seconds": float(clip.seconds),
        "num_frames": clip.num_frames,
        "fps": float(clip.frame_rate),
        "steps": clip.metadata.get("steps"),
        "has_sound": clip.audio is not None,
    }


def write_pictures(clip: Clip, folder: Path) -> dict[str, Path]:
    """A frame from the middle, and a grid of frames spread over the clip."""
    from PIL import Image

    files = {"thumbnail": folder / "thumbnail.webp", "spritesheet": folder / "spritesheet.jpg"}
    frames = [Image.fromarray(clip.frames[index]) for index in _spread(clip.num_frames, SHEET_COLUMNS * SHEET_ROWS)]
    still = Image.fromarray(clip.frames[clip.num_frames // 2])
    still.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
    still.save(files["thumbnail"], quality=85)
    _grid(frames).save(files["spritesheet"], quality=85)
    return files


def _grid(frames: Sequence[Image.Image]) -> Image.Image:
    from PIL import Image

    for frame in frames:
        frame.thumbnail((SHEET_CELL, SHEET_CELL))
    width, height = frames[0].size
    columns = min(SHEET_COLUMNS, len(frames))
    sheet = Image.new("RGB", (columns * width, -(-len(frames) // columns) * height))
    for place, frame in enumerate(frames):
        sheet.paste(frame, (place % columns * width, place // columns * height))
    return sheet


def _spread(count: int, places: int) -> list[int]:
    return list(range(count)) if count <= places else [round(i * (count - 1) / (places - 1)) for i in range(places)]
