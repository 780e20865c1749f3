"""The conditions of sampling: the prompt's embeddings, the first (and last) frame as latents with a mask, and
the latents of given tracks.

Shapes: b clips, f/h/w latent frames, rows, columns, c latent channels, l = 512 text positions.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

import ftfy
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.models.convolutions import channels_last_on_gpu
from phonofilm.models.joint import TEXT_LENGTH
from phonofilm.models.one_pass import EXACT, OnePass, one_pass_fits
from phonofilm.pipeline.edit_tasks import KnownTrack
from phonofilm.pipeline.guidance import Evaluation, Guidance
from phonofilm.pipeline.types import KnownLatents, Text, Tokens


def clean_prompt(prompt: str) -> str:
    """Mend broken unicode, undo HTML entities (twice, as they come doubled), collapse white space."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()


def tokenize(tokenizer: Any, prompts: Sequence[str], what: str = "prompt") -> Tokens:
    """The tokens of each prompt, padded to 512. Raises InputError for a prompt longer than that."""
    cleaned = [clean_prompt(p) for p in prompts]
    rows = tokenizer(cleaned, add_special_tokens=True).input_ids
    ids = torch.full((len(rows), TEXT_LENGTH), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        if len(row) > TEXT_LENGTH:
            raise InputError(f"the {what} has {len(row)} tokens and the model reads {TEXT_LENGTH}; shorten it")
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return Tokens(ids, mask)


def encode_text(text_encoder: Any, tokens: Tokens, device: torch.device) -> Text:
    """Run the text encoder over the tokens; what lies past a prompt's end becomes zero, as in training.

    Only as many positions as the longest prompt are run: the encoder masks the rest, so they change nothing.
    """
    lengths = tokens.mask.sum(dim=1)
    used = int(lengths.max())
    mask = tokens.mask[:, :used]
    hidden = text_encoder(tokens.ids[:, :used].to(device), mask.to(device)).last_hidden_state
    hidden = hidden * mask[:, :, None].to(hidden)
    return Text(torch.nn.functional.pad(hidden, (0, 0, 0, TEXT_LENGTH - used)), lengths)


def texts_needed(
    encode: Callable[[Tokens], Text],
    prompt: Tokens | Text,
    negative: Tokens | Text | None,
    guidance: Sequence[Guidance],
    clips: int,
) -> dict[Evaluation, Text]:
    """The text of every evaluation that some step needs, one row per clip. `encode` turns tokens into embeddings."""

    def rows(tokens_or_text: Tokens | Text) -> Text:
        text = encode(tokens_or_text) if isinstance(tokens_or_text, Tokens) else tokens_or_text
        return text.repeated(clips // text.embeds.shape[0])

    needed = {evaluation for scales in guidance for evaluation in scales.evaluations}
    texts = {Evaluation.PROMPT: rows(prompt)} if Evaluation.PROMPT in needed else {}
    if away := needed - {Evaluation.PROMPT}:
        assert negative is not None
        texts |= dict.fromkeys(away, rows(negative))
    return texts


def image_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as float32 [1,3,h,w] in -1..1."""
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0)
    return pixels.permute(2, 0, 1)[None] * 2 - 1


def white_frame(geometry: ClipGeometry) -> Tensor:
    """The uninformative first frame that stands for 'no picture given': float32 [1,3,h,w], all white."""
    return torch.ones(1, 3, geometry.height, geometry.width)


def normalize(vae: Any, latents: Tensor) -> Tensor:
    """Raw video latents [b,c,f,h,w] to the model's: (x - mean) / std per channel, from the VAE's config."""
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def denormalize(vae: Any, latents: Tensor) -> Tensor:
    """The model's video latents [b,c,f,h,w] back to the VAE's."""
    mean, std = _statistics(vae, latents)
    return latents * std + mean


def encode_video(vae: Any, pixels: Tensor, device: torch.device) -> Tensor:
    """pixels [b,3,F,H,W] in -1..1 -> normalised latents float32 [b,c,f,h,w]: the posterior's mode. `device` is where the
    VAE runs; an offloaded one does not know it."""
    channels_last_on_gpu(vae, device)
    pixels = pixels.to(device=device, dtype=vae.dtype)
    if one_pass_fits(vae, pixels[:, 0].numel(), pixels):
        return normalize(vae, OnePass(vae, eps=EXACT).encode(pixels)[0])
    return normalize(vae, vae.encode(pixels).latent_dist.mode().float())


def frame_condition(
    vae: Any, geometry: ClipGeometry, device: torch.device, first: Tensor, last: Tensor | None = None
) -> Tensor:
    """Mask and latents of the given frames: float32 [b, 4+c, f, h, w] on `device`.

    first, last: [b,3,H,W] in -1..1. The frames not given are zero (mid grey). The mask has one channel per pixel frame
    of a latent frame: all four are 1 in the first latent frame, and the very last is 1 where a last frame is given.
    """
    frames = [first[:, :, None], first.new_zeros(*first.shape[:2], geometry.num_frames - 1, *first.shape[2:])]
    mask = torch.zeros(
        first.shape[0],
        geometry.temporal_factor,
        geometry.latent_frames,
        geometry.latent_height,
        geometry.latent_width,
    )
    mask[:, :, 0] = 1
    if last is not None:
        if geometry.num_frames < 2:
            raise InputError("a last frame was given for a clip of one frame; use num_frames 5 or more")
        frames[1] = torch.cat([frames[1][:, :, 1:], last[:, :, None]], dim=2)
        mask[:, -1, -1] = 1
    latents = encode_video(vae, torch.cat(frames, dim=2), device)
    return torch.cat([mask.to(latents), latents], dim=1)


def known_video(vae: Any, known: KnownTrack, geometry: ClipGeometry, clips: int, device: torch.device) -> KnownLatents:
    """The known part of the picture as latents for `clips` clips."""
    frames = torch.from_numpy(known.data).permute(3, 0, 1, 2)[None].float().div_(127.5).sub_(1)
    latents = encode_video(vae, frames, device)
    return KnownLatents(_filled(latents, geometry.latent_frames, clips), torch.from_numpy(known.where))


def known_audio(vae: Any, known: KnownTrack, geometry: ClipGeometry, clips: int, device: torch.device) -> KnownLatents:
    """The known part of the sound as latents for `clips` clips."""
    wave = vae.preprocess(torch.from_numpy(known.data)[None, None])
    latents = vae.encode(wave.to(device=device, dtype=vae.dtype)).mode().float()
    return KnownLatents(_filled(latents, geometry.audio_latents, clips), torch.from_numpy(known.where))


def _filled(known: Tensor, length: int, clips: int) -> Tensor:
    """Known latents [1,c,k,...] as [clips,c,length,...]; what is past their end is not held, so zero does."""
    rest = known.new_zeros(*known.shape[:2], length - known.shape[2], *known.shape[3:])
    return torch.cat([known, rest], dim=2).repeat_interleave(clips, 0)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(  # type: ignore[return-value]
        torch.tensor(vae.config[name], device=like.device, dtype=like.dtype).reshape(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
