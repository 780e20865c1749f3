"""What a distillation knows of a micro-batch: what is given to the model. Of the clips themselves only a held track is used.

Legend: b batch, c latent channels, f h w latent frames and sides, n audio latents, l tokens, d text width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from phonofilm.data.cache import Entry, first_frame_mask, read_cached_window, read_given_frames, read_text
from phonofilm.pipeline.guidance import Evaluation
from phonofilm.pipeline.types import Latents
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.latent_dataset import EncodedPrompts

Held = Literal["none", "video", "audio"]


@dataclass(frozen=True)
class DistillBatch:
    """condition [b,4+c,f,h,w]: mask and latents of the given frames. prompts: of every evaluation. `clean`: the clips' own
    latents, for a held track. sound [b]: which of them have any. audio_shape: (channels, latents)."""

    condition: Tensor
    prompts: Mapping[Evaluation, EncodedPrompts]
    frame_rate: float
    audio_shape: tuple[int, int]
    sound: Tensor
    names: tuple[str, ...]
    clean: Latents | None = None

    @property
    def size(self) -> int:
        return self.condition.shape[0]

    def noise(self, seeds: Sequence[int]) -> Latents:
        """Start noise, one seed per clip, drawn on the host so that it is the same on every device."""
        channels = self.condition.shape[1] - 4
        video, audio = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            video.append(torch.randn(channels, *self.condition.shape[2:], generator=generator))
            audio.append(torch.randn(*self.audio_shape, generator=generator))
        device = self.condition.device
        return Latents(torch.stack(video).to(device), torch.stack(audio).to(device))


class DistillData:
    """The batches of a distillation out of a cache of clips, or of captions alone.

    `negative`: the negative prompt's embeddings [l,d]. `audio_latents`: (channels, latents) of each bucket.
    """

    def __init__(self, clips: CachedClips, negative: Tensor, audio_latents: Mapping[str, tuple[int, int]]) -> None:
        self.clips, self.negative, self._audio_latents = clips, negative, audio_latents

    def batch(self, number: int, size: int, device: torch.device, *, tracks: bool = False) -> DistillBatch:
        """Micro-batch `number`. `tracks`: with the clips' own latents."""
        bucket = self.clips.bucket_at(number, size)
        return self.batch_of(bucket, self.clips.rows_at(number, size), device, tracks=tracks)

    def batch_of(
        self, bucket: str, entries: Sequence[Entry], device: torch.device, *, tracks: bool = False
    ) -> DistillBatch:
        """These entries, all of `bucket`, each with the frames that it gives."""
        cache = self.clips.cache
        clean = None
        if tracks:
            items = [read_cached_window(cache, entry.latents) for entry in entries]
            clean = Latents(
                torch.stack([item.video for item in items]).to(device).float(),
                torch.stack([item.audio for item in items]).to(device).float(),
            )
        texts = [read_text(cache, entry.text).embeds for entry in entries]
        return DistillBatch(
            torch.stack([read_given_frames(cache, entry.latents).to(device).float() for entry in entries]),
            {
                Evaluation.PROMPT: _prompts(texts, device),
                Evaluation.NEGATIVE: (negative := _prompts([self.negative] * len(entries), device)),
                Evaluation.NEGATIVE_ALONE: negative,
            },
            float(self.clips.index.rate),
            self._audio_latents[bucket],
            torch.tensor([entry.has_audio for entry in entries]),
            tuple(entry.name for entry in entries),
            clean,
        )

    def white(self, bucket: str, device: torch.device) -> Tensor:
        """[4+c,f,h,w]: mask and latents of the white first frame that stands for none."""
        latents = self.clips.white(bucket).to(device)
        return torch.cat([first_frame_mask(latents), latents])


def _prompts(texts: Sequence[Tensor], device: torch.device) -> EncodedPrompts:
    return EncodedPrompts(
        pad_sequence(list(texts), batch_first=True).to(device), torch.tensor([text.shape[0] for text in texts])
    )
