"""Whether a clip has room: its frames in memory, its files on their disks. Only what clearly has none is refused.

What a file will take depends on its pictures, so less is counted than flat, still ones take.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil

from phonofilm.errors import InputError
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.films.part_files import parts_folder
from phonofilm.generation.outputs import FRAMES, LATENT, Output
from phonofilm.units import format_size

# Bytes of a picture for each byte of its file, at most. Clips of the embedded model have 16 to 20 in mp4, films 50 to 200.
MOST_COMPRESSION = {"mp4": 300, "webm": 300, "gif": 300, FRAMES: 400}
BLOCK = 4096  # what a file takes on a disk, however short it is


def check_room(plan: ClipPlan, outputs: Sequence[Output], latent_channels: int) -> None:
    """Raises InputError when the frames of one clip do not fit into this machine's memory, or the files of all on their disks.

    `outputs`: those that are still to be made of the plan.
    """
    geometry, frames = plan.sampling.task.geometry, plan.frames_in_all
    picture = frames * geometry.height * geometry.width * 3
    sound = int(frames / geometry.frame_rate * geometry.sampling_rate) * 4
    there = psutil.virtual_memory().total
    if picture > there and outputs[0].kind != LATENT:
        raise InputError(
            f"{frames} frames of {geometry.width}x{geometry.height} take {format_size(picture)} and this machine has "
            f"{format_size(there)} of memory; make the clip shorter or smaller"
        )
    needed: dict[Path, int] = defaultdict(int)
    for output in outputs:
        least = picture // MOST_COMPRESSION.get(output.kind, 1)
        if output.kind == LATENT:
            least = 4 * latent_channels * geometry.latent_frames * geometry.latent_height * geometry.latent_width
        elif output.kind == FRAMES:
            least = max(least, frames * BLOCK) + sound
        needed[output.path.parent] += least
    if plan.parts:  # they are kept, lossless, until their film is written
        parts = parts_folder(outputs[0].path)
        kept = sum(file.stat().st_size for file in parts.iterdir()) if parts.is_dir() else 0
        needed[outputs[0].path.parent] += max(0, picture + sound - kept)
    for folder, least in needed.items():
        there_is = next(one for one in (folder, *folder.absolute().parents) if os.path.isdir(one))
        free = shutil.disk_usage(there_is).free
        if free < least:
            names = f"{outputs[0].path}" + (f" to {outputs[-1].path.name}" if len(outputs) > 1 else "")
            raise InputError(
                f"cannot write {names}: at least {format_size(least)} will be needed "
                f"{'(the parts of the film among it) ' if plan.parts else ''}and the disk has {format_size(free)} free; make "
                "room, or choose another folder"
            )
