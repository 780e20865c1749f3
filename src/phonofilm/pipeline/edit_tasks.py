"""Tracks that are given: a clip that wants sound, a sound that wants a picture, a clip to go on from or to mend.

Each function says, in the model's own terms, which window to make, what of it is known, and how what the model makes is
joined with what was given. Nothing here runs the model.

Shapes: F frames and S samples of the model's window, f latent frames, t audio latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.media.clip import Clip, fit_length
from phonofilm.media.images import fit_image
from phonofilm.media.waveform import resample
from phonofilm.pipeline.types import Decoded

RetakeTracks = Literal["both", "video", "audio"]
OVERLAP_FRAMES = 17
# Joins fade over the last frames and samples of what both sides hold, which hides the VAEs' small errors.
FADE_FRAMES = 4
FADE_SECONDS = 0.02
# Audio latents next to the cut were encoded against silence beyond it; this many are left for the model to remake.
CUT_LATENTS = 2


@dataclass(frozen=True)
class KnownTrack:
    """A known track: its data in the model's window, and per latent whether it is held.

    data: video uint8 [<=F,h,w,3] or audio float32 [<=S]; what is missing at the end is not held. where: bool [f] or [t].
    """

    data: np.ndarray
    where: np.ndarray

    @property
    def whole(self) -> bool:
        return bool(self.where.all())


@dataclass(frozen=True)
class EditTask:
    """The window to make, what of it is known, its first frame, and `join`, which turns the model's clip into the result.

    lead: frames at the window's start that are no part of the result. given_frames: those that end a clip that is continued.
    """

    geometry: ClipGeometry
    video: KnownTrack | None
    audio: KnownTrack | None
    first_frame: Image.Image | None
    join: Callable[[Decoded], Decoded]
    lead: int = 0
    given_frames: int = 0


def sound_for_video(clip: Clip, geometry: ClipGeometry) -> EditTask:
    """Sound for a clip that exists. The picture is held whole; the result shows the clip's own frames."""
    frames = _covering(_fitted(clip.frames, geometry), geometry.num_frames)
    samples = math.floor(geometry.sampling_rate * clip.seconds)

    def join(made: Decoded) -> Decoded:
        own = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        return Decoded(own, made.audio[:, :samples], made.sampling_rate)

    known = KnownTrack(frames, np.ones(geometry.latent_frames, dtype=bool))
    return EditTask(geometry, known, None, Image.fromarray(frames[0]), join)


def picture_for_sound(audio: np.ndarray, rate: int, geometry: ClipGeometry) -> EditTask:
    """Picture for a sound that exists, float32 [channels, samples] at `rate`.

    The result carries the sound as it is, up to the end of the picture where that was asked to be shorter.
    """
    wave = fit_length(model_sound(audio, rate, geometry.sampling_rate)[None], geometry.num_samples)[0]
    shown = min(geometry.num_frames, math.ceil(Fraction(audio.shape[1], rate) * geometry.frame_rate))
    heard = audio[:, : math.floor(rate * shown / geometry.frame_rate)]

    def join(made: Decoded) -> Decoded:
        return Decoded(made.frames[:shown], torch.from_numpy(heard), rate)

    return EditTask(geometry, None, KnownTrack(wave, np.ones(geometry.audio_latents, dtype=bool)), None, join)


def continuation(clip: Clip, geometry: ClipGeometry, overlap: int) -> EditTask:
    """Go on from the last `overlap` frames of `clip`, in both tracks. The result is the whole clip, old part first."""
    if clip.audio is None or clip.sampling_rate is None:
        raise InputError("the clip to continue has no sound; give it one first with video=")
    if (overlap - 1) % geometry.temporal_factor or not 1 <= overlap < geometry.num_frames:
        raise InputError(
            f"overlap_frames {overlap} must be 1 + a multiple of {geometry.temporal_factor} and below num_frames "
            f"{geometry.num_frames}; use for example {OVERLAP_FRAMES}"
        )
    if clip.num_frames < overlap:
        raise InputError(
            f"the clip to continue has {clip.num_frames} frames, and the model goes on from the last {overlap} "
            "(overlap_frames); give a longer one"
        )
    _same_size(clip, geometry)
    _same_rate(clip, geometry)
    past = clip.num_frames - overlap
    total = past + geometry.num_frames
    rate = geometry.sampling_rate
    old_sound = model_sound(clip.audio, clip.sampling_rate, geometry.sampling_rate)
    start, end = (round(Fraction(frame * rate) / geometry.frame_rate) for frame in (past, clip.num_frames))
    old_sound = fit_length(old_sound[None], end)[0]
    where_video = np.arange(geometry.latent_frames) <= (overlap - 1) // geometry.temporal_factor
    whole_latents = max(0, (end - start) // geometry.hop_length - CUT_LATENTS)
    where_audio = np.arange(geometry.audio_latents) < whole_latents

    def join(made: Decoded) -> Decoded:
        frames = made.frames.new_empty(total, *made.frames.shape[1:])
        _put_own(frames, clip.frames, range(past))
        frames[past:] = made.frames
        fade = min(FADE_FRAMES, overlap)
        frames[past : past + overlap - fade] = _as_tensor(clip.frames[past : past + overlap - fade])
        weight = torch.arange(1, fade + 1)[:, None, None, None] / (fade + 1)
        seam = slice(clip.num_frames - fade, clip.num_frames)
        frames[seam] = torch.lerp(_as_tensor(clip.frames[seam]), frames[seam], weight)
        old = torch.from_numpy(old_sound)
        sound = _crossfade(old, torch.cat([old[:start], made.audio[0]]), end - int(FADE_SECONDS * rate), end)
        return Decoded(frames, sound[None, : math.floor(rate * total / geometry.frame_rate)], rate)

    tail = clip.frames[past:]
    known_sound = KnownTrack(old_sound[start:end], where_audio)
    known = KnownTrack(tail, where_video)
    return EditTask(geometry, known, known_sound, Image.fromarray(tail[0]), join, given_frames=overlap)


def voice_before(audio: np.ndarray, rate: int, geometry: ClipGeometry) -> EditTask:
    """A clip of `geometry` after a sample of a voice: the window begins with the sample, whose picture is free.

    audio: float32 [channels, samples] at `rate`. The sample ends where the clip begins; both are cut apart again.
    """
    wave = model_sound(audio, rate, geometry.sampling_rate)
    factor = geometry.temporal_factor
    lead = factor * math.ceil(Fraction(len(wave), geometry.sampling_rate) * geometry.frame_rate / factor)
    window = replace(geometry, num_frames=geometry.num_frames + lead)
    begin = round(lead / geometry.frame_rate * geometry.sampling_rate)
    held = np.arange(window.audio_latents) < begin // geometry.hop_length - CUT_LATENTS
    samples = geometry.num_samples

    def join(made: Decoded) -> Decoded:
        sound = fit_length(made.audio.numpy(), begin + samples)[:, begin:]
        return Decoded(made.frames[lead:], torch.from_numpy(sound), made.sampling_rate)

    sample = np.pad(wave, (begin - len(wave), 0))
    return EditTask(window, None, KnownTrack(sample, held), None, join, lead)


def check_stretch(start: float, end: float, clip: Clip) -> None:
    """Raises InputError unless these are seconds of the clip, at least as far apart as its frames."""
    if not 0 <= start < end <= float(clip.seconds) + 1e-6:
        raise InputError(
            f"retake {start:g}:{end:g} is not a stretch of a clip of {float(clip.seconds):.3f} s; use seconds, start before end"
        )
    frame = float(1 / clip.frame_rate)
    if end - start < frame - 1e-6:
        raise InputError(
            f"retake {start:g}:{end:g} is shorter than a frame of the clip, {frame:.4f} s; give a longer one"
        )


def retake(clip: Clip, geometry: ClipGeometry, stretch: tuple[float, float], tracks: RetakeTracks) -> EditTask:
    """Make the seconds `stretch` of `clip` anew, in one track or both. The result is the clip with that stretch replaced.

    The picture is made in whole latent frames, so its stretch is the smallest run of frames that covers the one asked
    for; outside of it every frame and, for the sound, every sample is the clip's own.
    """
    start, end = stretch
    check_stretch(start, end, clip)
    if clip.audio is None or clip.sampling_rate is None:
        raise InputError("the clip to retake has no sound; give it one first with video= alone")
    if tracks not in ("both", "video", "audio"):
        raise InputError(f"retake_tracks {tracks!r} is unknown; use both, video or audio")
    _same_size(clip, geometry)
    redo_video, redo_audio = tracks != "audio", tracks != "video"
    rate, hop = geometry.sampling_rate, geometry.hop_length
    first, last = math.floor(start * clip.frame_rate), math.ceil(end * clip.frame_rate - Fraction(1, 10**6))
    frame_latent = (np.arange(geometry.num_frames) + geometry.temporal_factor - 1) // geometry.temporal_factor
    remade = np.isin(np.arange(geometry.latent_frames), frame_latent[first:last]) & redo_video
    latent_start = np.arange(geometry.audio_latents) * hop / rate
    remade_sound = (latent_start < end) & (latent_start + hop / rate > start) & redo_audio
    own_sound = clip.audio
    old = torch.from_numpy(model_sound(own_sound, clip.sampling_rate, geometry.sampling_rate))
    new_frames = remade[frame_latent][: clip.num_frames]

    def join(made: Decoded) -> Decoded:
        frames = made.frames[: clip.num_frames]
        _put_own(frames, clip.frames, np.flatnonzero(~new_frames))
        if not redo_audio:
            return Decoded(frames, torch.from_numpy(own_sound), clip.sampling_rate or rate)
        new = torch.from_numpy(fit_length(made.audio.numpy(), len(old)))[0]
        lead, fade = round(start * rate), max(1, min(int(FADE_SECONDS * rate), int((end - start) * rate / 2)))
        sound = _crossfade(old, new, lead, lead + fade) if start > 0 else new
        close = min(len(old), round(end * rate))
        return Decoded(frames, (_crossfade(sound, old, close - fade, close) if close < len(old) else sound)[None], rate)

    padded = _covering(clip.frames, geometry.num_frames)
    sound = fit_length(old.numpy()[None], geometry.num_samples)[0]
    first_frame = None if remade[0] else Image.fromarray(padded[0])
    return EditTask(geometry, KnownTrack(padded, ~remade), KnownTrack(sound, ~remade_sound), first_frame, join)


def covering_geometry(clip: Clip, geometry: ClipGeometry) -> ClipGeometry:
    """`geometry` with the clip's frame rate and the smallest legal number of frames that covers the clip."""
    factor = geometry.temporal_factor
    return replace(geometry, frame_rate=clip.frame_rate, num_frames=1 + factor * -(-(clip.num_frames - 1) // factor))


def model_sound(audio: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    """[channels, n] at `rate` -> mono float32 [n'] at the model's rate."""
    mono: np.ndarray = resample(audio.mean(axis=0, keepdims=True, dtype=np.float32), rate, to_rate)[0]
    return mono


def _as_tensor(frames: np.ndarray) -> Tensor:
    """uint8 [f,h,w,3] -> float32 [f,3,h,w] in 0..1; rounding back to grey levels returns the same frames."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255.0)


def _put_own(frames: Tensor, own: np.ndarray, which: Iterable[int]) -> None:
    """Put these of a clip's own frames, uint8 [f,h,w,3], into their places in `frames`, float32 [f,3,h,w] in 0..1.

    One by one: as floats, all of a long clip's frames beside those of the result would take gigabytes.
    """
    for index in which:
        frames[index] = _as_tensor(own[index : index + 1])[0]


def _fitted(frames: np.ndarray, geometry: ClipGeometry) -> np.ndarray:
    if frames.shape[1:3] == (geometry.height, geometry.width):
        return frames
    return np.stack([np.asarray(fit_image(Image.fromarray(f), geometry.height, geometry.width)) for f in frames])


def _covering(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """`frames` drawn out to `num_frames` by standing still on the last one."""
    drawn_out: np.ndarray = np.concatenate([frames, np.repeat(frames[-1:], num_frames - len(frames), axis=0)])
    return drawn_out


def _crossfade(before: Tensor, after: Tensor, start: int, end: int) -> Tensor:
    """`before` up to sample `start`, `after` from `end` on, and a linear fade between: [n], n = len(after)."""
    weight = torch.linspace(0, 1, end - start)
    faded = torch.lerp(before[start:end], after[start:end], weight)
    return torch.cat([before[:start], faded, after[end:]])


def _same_size(clip: Clip, geometry: ClipGeometry) -> None:
    if (clip.height, clip.width) != (geometry.height, geometry.width):
        raise InputError(
            f"the given clip is {clip.width}x{clip.height} and the size asked for {geometry.width}x{geometry.height}; "
            "leave the size out, or resize the clip first"
        )


def _same_rate(clip: Clip, geometry: ClipGeometry) -> None:
    if clip.frame_rate != geometry.frame_rate:
        raise InputError(
            f"the given clip has {clip.frame_rate} frames/s and {geometry.frame_rate} were asked for; leave frame_rate out"
        )
