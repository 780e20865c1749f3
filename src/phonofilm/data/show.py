"""What a cache really holds, to look at: each item decoded back from its latents, as frames over their waveform."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch

from phonofilm.data.cache import Entry, read_cached_window, read_index
from phonofilm.data.cache_keys import autoencoder_hash
from phonofilm.data.encoders import Encoders
from phonofilm.data.windows import parse_bucket
from phonofilm.errors import InputError
from phonofilm.media import Clip, contact_sheet
from phonofilm.pipeline.decode import decode_audio, decode_video, to_uint8


def decoded(cache: Path, encoders: Encoders, first: int = 0, count: int | None = None) -> Iterator[tuple[Entry, Clip]]:
    """The cache's items from number `first` on, as clips. An item without sound has none here either.

    Raises InputError when the cache was made with other autoencoders, which could only decode it to noise.
    """
    index = read_index(cache)
    if index.autoencoders != autoencoder_hash(encoders.layout):
        raise InputError(f"{cache} was made with the autoencoders of {index.model}, not with these; name that model")
    for entry in index.entries[first : None if count is None else first + count]:
        yield entry, _clip(cache, entry, index.rate, encoders)


def show_cache(
    cache: Path, folder: Path, encoders: Encoders, first: int = 0, count: int | None = None
) -> Iterator[Path]:
    """Write one contact sheet (PNG) per item into `folder`, yielding each one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (entry, clip) in enumerate(decoded(cache, encoders, first, count), start=first):
        path = folder / f"{number:04d}-{Path(entry.name.rpartition('@')[0]).stem}.png"
        contact_sheet(clip, rows=1, title=f"{entry.name}: {entry.caption}").save(path)
        yield path


@torch.no_grad()
def _clip(cache: Path, entry: Entry, frame_rate: Fraction, encoders: Encoders) -> Clip:
    geometry = encoders.geometry(parse_bucket(entry.bucket), frame_rate)
    item = read_cached_window(cache, entry.latents)
    video = decode_video(encoders.video_vae, item.video[None].float().to(encoders.device))
    frames = to_uint8(video[0].permute(0, 2, 3, 1).numpy())
    if not entry.has_audio:
        return Clip(frames, frame_rate)
    wave = decode_audio(encoders.audio_vae, item.audio[None].float().to(encoders.device), geometry)
    return Clip(frames, frame_rate, wave[0].numpy(), geometry.sampling_rate)
