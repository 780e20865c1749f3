"""World clips rendered once, by other processes while the training has begun, for all stages that learn from them.

A folder holds `frames.npy` [n,f,h,w,3], `audio.npy` float16 [n,samples], `captions.npy` (bytes), `done.npy` (which rows are
there) and `world.json`. A row that is done is not rendered again. Knows no model, and no torch: each process imports it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.nano.world import make_clip

logger = logging.getLogger(__name__)

ARRAYS = ("frames", "audio", "captions", "done")
CAPTION_BYTES = 320


class SeenClip(Protocol):
    """What training reads of a clip: uint8 [f,h,w,3], float32 [samples], and its caption."""

    @property
    def frames(self) -> NDArray[np.uint8]: ...
    @property
    def audio(self) -> NDArray[np.float32]: ...
    @property
    def caption(self) -> str: ...


@dataclass(frozen=True)
class BankClip:
    """A clip out of a world's arrays."""

    frames: NDArray[np.uint8]
    audio: NDArray[np.float32]
    caption: str


@dataclass(frozen=True)
class WorldConfig:
    """Which clips, and who renders them.

    Row i is the clip of seed i, its scene the i-th of `scenes` in turn, so that a scene named twice is shown twice as often.
    `workers` processes render `chunk` clips at a time; None: one for each core but one; 0: this process, before anything
    else. Training begins when `first_clips` are there.
    """

    clips: int
    size: int
    num_frames: int
    scenes: tuple[str, ...]
    frame_rate: Fraction = Fraction(24)
    sampling_rate: int = 16000
    workers: int | None = None
    chunk: int = 16
    first_clips: int = 256

    @property
    def samples(self) -> int:
        """Of a clip's sound, which is never longer than its picture."""
        return math.floor(self.sampling_rate * self.num_frames / self.frame_rate)

    @property
    def processes(self) -> int:
        """How many render."""
        return max(1, (os.cpu_count() or 1) - 1) if self.workers is None else self.workers

    @property
    def nbytes(self) -> int:
        """On the disk."""
        return self.clips * (3 * self.num_frames * self.size**2 + 2 * self.samples + CAPTION_BYTES + 1)

    def described(self) -> dict[str, Any]:
        """What a rendered world must agree with, as JSON values."""
        keys = ("clips", "size", "num_frames", "sampling_rate")
        return {key: getattr(self, key) for key in keys} | {
            "scenes": list(self.scenes),
            "frame_rate": str(self.frame_rate),
        }


class World:
    """The clips of one folder; while they are still being rendered, those at the front that are there."""

    def __init__(self, config: WorldConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        _make_folder(config, folder)
        self.frames, self.audio, self.captions, self._done = (_open(folder, name, "r") for name in ARRAYS)
        self.pending: list[tuple[int, Future[None]]] = []

    @property
    def ready(self) -> int:
        """How many clips from the first on are there."""
        first = int(np.argmin(self._done))
        return len(self._done) if self._done[first] else first

    def missing(self) -> list[range]:
        """The chunks of rows that are not all there."""
        count, chunk = self.config.clips, self.config.chunk
        chunks = [range(first, min(first + chunk, count)) for first in range(0, count, chunk)]
        return [rows for rows in chunks if not self._done[rows.start : rows.stop].all()]

    def wait(self, rows: int | None = None) -> None:
        """Return when so many clips (all by default) are there. Raises what went wrong while they were rendered."""
        wanted = self.config.clips if rows is None else min(rows, self.config.clips)
        for first, future in self.pending:
            if first < wanted:
                future.result()
        if self.ready < wanted:
            raise InputError(
                f"{self.folder} has {self.ready} of {wanted} clips and nobody renders the rest; run it again"
            )

    def sound(self, row: int) -> NDArray[np.float32]:
        """[samples] of one clip."""
        return np.asarray(self.audio[row], np.float32)

    def clips(self, rows: range) -> list[SeenClip]:
        """Copies of these clips."""
        return [
            BankClip(np.array(self.frames[row]), self.sound(row), bytes(self.captions[row]).decode()) for row in rows
        ]


@contextmanager
def rendering(config: WorldConfig, folder: Path) -> Iterator[World]:
    """The world in `folder`; what is missing of it is rendered while the block is open. A block that ends ends it.

    Raises InputError when the folder holds another world.
    """
    world = World(config, folder)
    chunks = world.missing()
    if not chunks or config.processes == 0:
        for rows in chunks:
            render_rows(config, folder, rows)
        yield world
        return
    logger.info("world: %d processes render %d clips", config.processes, sum(map(len, chunks)))
    # Fresh processes: a fork of one that uses a GPU is not safe.
    pool = ProcessPoolExecutor(config.processes, get_context("spawn"), _begin_worker)
    try:
        world.pending = [(rows.start, pool.submit(render_rows, config, folder, rows)) for rows in chunks]
        yield world
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Ctrl-C is the first process's business; when that one is gone, so is this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def render_rows(config: WorldConfig, folder: Path, rows: Sequence[int]) -> None:
    """Render the rows that are not done into the folder's arrays, one after the other."""
    frames, audio, captions, done = (_open(folder, name, "r+") for name in ARRAYS)
    for row in rows:
        if done[row]:
            continue
        clip = make_clip(
            row,
            scene=config.scenes[row % len(config.scenes)],
            size=config.size,
            num_frames=config.num_frames,
            frame_rate=config.frame_rate,
            sampling_rate=config.sampling_rate,
        )
        caption = clip.caption.encode()
        assert len(caption) <= CAPTION_BYTES, caption
        frames[row], audio[row], captions[row] = clip.frames, clip.audio, caption
        done[row] = True


def _make_folder(config: WorldConfig, folder: Path) -> None:
    if folder.exists():
        if json.loads((folder / "world.json").read_text()) != config.described():
            raise InputError(
                f"{folder} holds a world of other clips than this recipe's; use another folder for the run"
            )
        return
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "frames": (np.uint8, (config.num_frames, config.size, config.size, 3)),
        "audio": (np.float16, (config.samples,)),
        "captions": (f"S{CAPTION_BYTES}", ()),
        "done": (np.bool_, ()),
    }
    with replacing(folder) as temporary:
        temporary.mkdir()
        for name, (dtype, shape) in shapes.items():
            np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", dtype, (config.clips, *shape))
        (temporary / "world.json").write_text(json.dumps(config.described()))


def _open(folder: Path, name: str, mode: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode=mode)
    return array
