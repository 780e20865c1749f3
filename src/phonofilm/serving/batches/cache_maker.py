"""A part of a data set's cache, encoded in a worker on Ray: some windows, some captions, or a white frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from phonofilm.data.cache import PlannedCache, write_text, write_white, write_window
from phonofilm.data.encoders import Encoders, encoders_of
from phonofilm.data.manifest import Item
from phonofilm.data.windows import ClipWindow, parse_bucket
from phonofilm.generation.placement.devices import choose_device
from phonofilm.generation.report import StageStarted, emit
from phonofilm.serving.batches.folder_maker import FolderMaker
from phonofilm.serving.jobs.job import Job, JobRequest, MadeClips
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import Store
from phonofilm.serving.worker.held_job import HeldJob

CACHE_MAKER = "phonofilm.serving.batches.cache_maker:CacheMaker"
WINDOWS_EACH, CAPTIONS_EACH = 8, 64


class CacheMaker(FolderMaker):
    """Writes items of a cache into its folder, each whole or not at all; what is there already is left alone."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self._encoders: Encoders | None = None

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        """Raises InputError and MediaError for a window that cannot be encoded; those before it are kept."""
        started, asked = time.monotonic(), job.request.options
        if self._encoders is None:
            self._encoders = encoders_of(asked["model"], choose_device(self.settings.hardware.device))
        folder, rate = Path(asked["folder"]), Fraction(asked["frame_rate"])
        windows = texts = 0
        for key, content in asked["windows"].items():
            window = window_from_json(content, rate)
            emit(held, StageStarted(f"encode {window.name}"))
            windows += write_window(folder, key, window, self._encoders)
        for bucket, key in asked["whites"].items():
            write_white(folder, key, bucket, rate, self._encoders)
        for key, caption in asked["captions"].items():
            emit(held, StageStarted("encode captions"))
            texts += write_text(folder, key, caption, self._encoders)
        took = round(time.monotonic() - started, 3)
        return MadeClips([], {"windows": windows, "texts": texts, "inference_time_s": took}, 0)

    def close(self) -> None:
        self._encoders = None


def cache_requests(planned: PlannedCache, folder: Path) -> list[JobRequest]:
    """The jobs that make what a cache lacks, a few items each."""
    index, lacking = planned.index, planned.lacking(folder)
    about = {"model": index.model, "folder": str(folder), "frame_rate": index.frame_rate}
    windows = [(key, window_to_json(window)) for key, window in lacking.windows.items()]
    parts: list[dict[str, Any]] = [{"windows": dict(some)} for some in _chunks(windows, WINDOWS_EACH)]
    parts += [{"whites": {bucket: key}} for bucket, key in lacking.whites.items()]
    parts += [{"captions": dict(some)} for some in _chunks(list(lacking.captions.items()), CAPTIONS_EACH)]
    nothing: dict[str, Any] = {"windows": {}, "whites": {}, "captions": {}}
    return [JobRequest({"prompt": "", **about, **nothing, **part}) for part in parts]


def window_to_json(window: ClipWindow) -> dict[str, Any]:
    """What decides a window's latents, and what messages say of it."""
    item = window.item
    return {
        "file": str(item.file),
        "audio": None if item.audio is None else str(item.audio),
        "stretch": [None if end is None else str(end) for end in (item.start, item.end)],
        "origin": item.origin,
        "start": str(window.start),
        "bucket": str(window.bucket),
        "has_audio": window.has_audio,
    }


def window_from_json(content: Mapping[str, Any], rate: Fraction) -> ClipWindow:
    """The window that `window_to_json` wrote, without its caption."""
    start, end = (None if one is None else Fraction(one) for one in content["stretch"])
    audio = None if content["audio"] is None else Path(content["audio"])
    item = Item(Path(content["file"]), None, audio, start, end, origin=content["origin"])
    bucket = parse_bucket(content["bucket"])
    return ClipWindow(item, Fraction(content["start"]), bucket, rate, content["has_audio"])


def _chunks(items: Sequence[tuple[str, Any]], size: int) -> Iterator[Sequence[tuple[str, Any]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
