"""A latent cache as training clips: read item by item, in micro-batches of one bucket, in an order that needs no state.

Legend: b batch, c latent channels, f h w latent frames and sides, n audio latents, l tokens, d text width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from phonofilm.data.cache import Entry, read_cached_window, read_index, read_text, read_white
from phonofilm.data.encoders import EncodedWindow
from phonofilm.data.sets import WeightedOrder
from phonofilm.errors import InputError
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.task.joint_task import Batch
from phonofilm.training.task.latent_dataset import EncodedPrompts
from phonofilm.training.task.objective import Sample


class BucketOrder:
    """Which bucket's which rows make up the k-th micro-batch: a pure function of seed and k.

    A bucket is drawn with the share that its rows' weights have in all; within it rows follow its own `WeightedOrder`,
    so that each comes as often as its weight says whatever the batch size.
    """

    def __init__(self, weights: Sequence[Sequence[float]], seed: int) -> None:
        self._shares = [sum(rows) for rows in weights]
        self._orders = [WeightedOrder(rows, seed + 7919 * number) for number, rows in enumerate(weights)]
        self._seed = seed
        self._drawn: list[tuple[int, int]] = []  # of each micro-batch: its bucket, and how many that bucket had before
        self._counts = [0] * len(weights)

    def batch(self, number: int, size: int) -> tuple[int, list[int]]:
        """(bucket, rows) of micro-batch `number`, from 0 on."""
        while len(self._drawn) <= number:
            source = random.Random(self._seed * 1_000_003 + len(self._drawn))
            bucket = source.choices(range(len(self._shares)), self._shares)[0]
            self._drawn.append((bucket, self._counts[bucket]))
            self._counts[bucket] += 1
        bucket, before = self._drawn[number]
        return bucket, [self._orders[bucket].row(before * size + place) for place in range(size)]


class CachedClips:
    """The clips of a cache. Captions come as embeddings, so that no text encoder is needed."""

    def __init__(self, cache: Path, seed: int) -> None:
        self.cache = cache
        self.index = read_index(cache)
        if not self.index.entries:
            raise InputError(f"{cache} holds no clips")
        names = sorted({entry.bucket for entry in self.index.entries})
        self.buckets = {name: [entry for entry in self.index.entries if entry.bucket == name] for name in names}
        self._whites = {name: read_white(cache, self.index.whites[name]).float() for name in names}
        self._empty = read_text(cache, self.index.empty).embeds
        self._order = BucketOrder([[entry.weight for entry in rows] for rows in self.buckets.values()], seed)

    def __len__(self) -> int:
        return len(self.index.entries)

    @property
    def any_sound(self) -> bool:
        """Whether any clip has sound to learn from."""
        return any(entry.has_audio for entry in self.index.entries)

    @property
    def content(self) -> str:
        """A hash of what is learnt and how often, the same wherever the cache lies and whatever the clips are called."""
        facts = [[e.bucket, e.latents, e.text, e.has_audio, e.weight] for e in self.index.entries]
        return digest([facts, self.index.frame_rate, self.index.empty])

    @property
    def captions_only(self) -> bool:
        """Whether it holds captions and given frames, and no clips."""
        return self.index.captions_only

    @property
    def empty(self) -> Tensor:
        """[l,d]: the empty caption's embeddings."""
        return self._empty

    def white(self, bucket: str) -> Tensor:
        """[c,f,h,w]: the condition of a white first frame."""
        return self._whites[bucket]

    def bucket_at(self, number: int, size: int) -> str:
        """The bucket of micro-batch `number`."""
        return list(self.buckets)[self._order.batch(number, size)[0]]

    def rows_at(self, number: int, size: int) -> list[Entry]:
        """The `size` clips of micro-batch `number`, all of one bucket."""
        bucket, rows = self._order.batch(number, size)
        clips = list(self.buckets.values())[bucket]
        return [clips[row] for row in rows]

    def batch(self, number: int, size: int, device: torch.device) -> Batch:
        """The `size` clips of micro-batch `number`, all of one bucket, on `device`."""
        return self.batch_of(self.bucket_at(number, size), self.rows_at(number, size), device)

    def _latents(self, entry: Entry) -> EncodedWindow:
        """One clip's latents. Raises InputError, naming the clip, when they are not finite."""
        item = read_cached_window(self.cache, entry.latents)
        for track in ("video", "condition", "audio"):
            if not torch.isfinite(getattr(item, track)).all():
                raise InputError(
                    f"{entry.name}: its {track} latents hold values that are not finite; look at the clip (phonofilm data "
                    f"doctor), then delete {self.cache} so that it is encoded again, or leave the clip out"
                )
        return item

    def batch_of(self, bucket: str, entries: Sequence[Entry], device: torch.device) -> Batch:
        """These clips, all of `bucket`, as one micro-batch on `device`."""
        items = [self._latents(entry) for entry in entries]
        video, condition, audio = (
            torch.stack([getattr(item, track).to(device).float() for item in items])
            for track in ("video", "condition", "audio")
        )
        sample = Sample(
            video,
            condition,
            audio,
            has_audio=torch.tensor([entry.has_audio for entry in entries]),
            white=self._whites[bucket].to(device),
        )
        texts = [read_text(self.cache, entry.text).embeds for entry in entries]

        def prompts(keep: Tensor) -> EncodedPrompts:
            shown = [text if kept else self._empty for text, kept in zip(texts, keep.tolist(), strict=True)]
            lengths = torch.tensor([text.shape[0] for text in shown])
            return EncodedPrompts(pad_sequence(shown, batch_first=True).to(device), lengths)

        return Batch(sample, prompts, float(self.index.rate), tuple(entry.name for entry in entries))
