"""A latent cache as the trainer's folders: one `LatentDataset` per bucket. What a cache is lives in `phonofilm.data`."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from phonofilm.data.cache import Entry, Index, read_index, read_latents, read_text, read_white
from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.training.task.latent_dataset import LatentMeta, LatentWriter


def pack_cache(cache: Path, folder: Path) -> list[Path]:
    """Write `folder`/HxWxF for each bucket of the cache, replacing what is there, and return those folders.

    A window of weight k stands there k times, since the trainer's epoch shows every row once. Raises InputError for a
    weight that is not a whole number.
    """
    index = read_index(cache)
    for entry in index.entries:
        if entry.weight != int(entry.weight):
            raise InputError(f"{entry.name} has weight {entry.weight:g}; the trainer's folders need whole numbers")
    buckets = dict.fromkeys(entry.bucket for entry in index.entries)
    shutil.rmtree(folder, ignore_errors=True)
    return [_pack(cache, index, bucket, folder / bucket) for bucket in buckets]


def _pack(cache: Path, index: Index, bucket: str, folder: Path) -> Path:
    rows = [entry for entry in index.entries if entry.bucket == bucket for _ in range(int(entry.weight))]
    prompts = {entry.text: read_text(cache, entry.text).tokens.tolist() for entry in rows}
    with replacing(folder) as temporary:
        writer = _writer(cache, index, rows, max(map(len, prompts.values())), temporary)
        for row, entry in enumerate(rows):
            item = read_latents(cache, entry.latents)
            tracks = (item.video[None], item.condition[None], item.audio[None])
            writer.put(row, *tracks, [prompts[entry.text]], torch.tensor([entry.has_audio]))
        writer.close(read_white(cache, index.whites[bucket]), read_text(cache, index.empty).tokens.tolist())
    return folder


def _writer(cache: Path, index: Index, rows: list[Entry], text: int, folder: Path) -> LatentWriter:
    first = read_latents(cache, rows[0].latents)
    meta = LatentMeta(frame_rate=float(index.rate))
    return LatentWriter(folder, len(rows), tuple(first.video.shape), tuple(first.audio.shape), text, meta)
