"""What passes between the stages of the pipeline: text, latents, known latents and a decoded clip.

Shapes: b clips, l text positions, d width, c latent channels, f/h/w latent frames, rows, columns, t audio latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from phonofilm.models.joint import fold_text_padding


@dataclass(frozen=True)
class Tokens:
    """Prompts as the text encoder reads them: token ids and their mask, both int64 [b,l]."""

    ids: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Text:
    """A prompt as the towers read it: embeddings [b,l,d], zero past each prompt's end, and the lengths [b] in tokens."""

    embeds: Tensor
    lengths: Tensor

    def repeated(self, times: int) -> Text:
        """Each prompt `times` times in a row."""
        return Text(self.embeds.repeat_interleave(times, 0), self.lengths.repeat_interleave(times, 0))

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same text with its padding folded to as few positions as possible, and their attention bias."""
        return fold_text_padding(self.embeds, self.lengths)


@dataclass(frozen=True)
class Latents:
    """Both modalities' latents or velocities: video [b,c,f,h,w], audio [b,c,t], float32."""

    video: Tensor
    audio: Tensor


class Known(Protocol):
    """What is known of a track, as data or as latents."""

    @property
    def whole(self) -> bool:
        """Whether all of the track is known."""


@dataclass(frozen=True)
class KnownLatents:
    """What is known of one track: `clean` latents in the track's shape, and where they hold, bool [time]."""

    clean: Tensor
    where: Tensor

    @property
    def whole(self) -> bool:
        return bool(self.where.all())

    def mask(self, like: Tensor) -> Tensor:
        """`where` shaped to broadcast over latents: time is dimension 2 of both modalities."""
        return self.where.to(like.device).reshape(1, 1, -1, *[1] * (like.dim() - 3))

    def put_back(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """`latents` with the known part replaced by itself at noise level `sigma`."""
        return torch.where(self.mask(latents), (1 - sigma) * self.clean + sigma * noise, latents)


@dataclass(frozen=True)
class Decoded:
    """One clip: frames float32 [f,3,h,w] in 0..1, audio float32 [channels, samples] at `sampling_rate`; on the host.

    Frames that are a given clip's own are uint8: as floats they would take four times the memory.
    """

    frames: Tensor
    audio: Tensor
    sampling_rate: int
