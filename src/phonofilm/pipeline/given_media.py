"""What callers give as picture, clip or sound (a path, a URL, an array, a PIL picture, a Clip), read into one type each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.media.clip import MAX_CHANNELS, Clip
from phonofilm.media.images import load_image
from phonofilm.media.read import read_clip
from phonofilm.media.readable import IMAGE_FORMATS
from phonofilm.media.sound import read_audio
from phonofilm.pipeline.argument_types import number

Picture = Image.Image | str | Path | np.ndarray | torch.Tensor
Frames = np.ndarray | torch.Tensor | Sequence[Image.Image]
GivenClip = Clip | str | Path | Frames
GivenSound = Clip | str | Path | tuple[np.ndarray, int]
FETCH_SECONDS = 30  # that a server may keep silent
URL_PREFIXES = ("http://", "https://")
PICTURES = "a path, an http(s) URL, a PIL picture, an array [h, w, 3] or a tensor [3, h, w]"


def picture(given: Picture, name: str = "image") -> Image.Image:
    """The picture as 8-bit RGB. Arrays and tensors hold uint8, or floats in 0..1.

    Raises InputError, naming the argument `name`, for anything else, and for a URL that gives no picture.
    """
    if isinstance(given, str) and given.startswith(URL_PREFIXES):
        return _fetched(given, name)
    if isinstance(given, str | Path | Image.Image):
        return load_image(given)
    if isinstance(given, torch.Tensor):
        if given.ndim != 3 or given.shape[0] != 3:
            raise InputError(f"{name} is a tensor of shape {tuple(given.shape)}; expected {PICTURES}")
        return Image.fromarray(grey_levels(given.detach().cpu().permute(1, 2, 0).numpy(), name))
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.shape[2] != 3:
            raise InputError(f"{name} is an array of shape {given.shape}; expected {PICTURES}")
        return Image.fromarray(grey_levels(given, name))
    raise InputError(f"{name} is a {type(given).__name__}; expected {PICTURES}")


def pictures(given: Picture | Sequence[Picture], name: str = "image") -> list[Image.Image]:
    """One picture or several; an array or tensor of four dimensions is several."""
    if isinstance(given, np.ndarray | torch.Tensor):
        return [picture(one, name) for one in (given if given.ndim == 4 else [given])]
    if isinstance(given, str | Path | Image.Image) or not isinstance(given, Sequence):
        return [picture(given, name)]
    return [picture(one, name) for one in given]


def clip(given: GivenClip, name: str, frame_rate: Fraction) -> Clip:
    """The clip. `frame_rate` is that of frames given as array [f, h, w, 3], tensor [f, 3, h, w] or list of pictures."""
    if isinstance(given, Clip):
        return given
    if isinstance(given, str | Path):
        return read_clip(given)
    if isinstance(given, torch.Tensor) and given.ndim == 4 and given.shape[1] == 3:
        given = given.detach().cpu().permute(0, 2, 3, 1).numpy()
    if isinstance(given, np.ndarray) and given.ndim == 4 and given.shape[3] == 3:
        return Clip(grey_levels(given, name), frame_rate)
    frames = [frame for frame in given if isinstance(frame, Image.Image)] if isinstance(given, Sequence) else []
    if frames and len(frames) == len(given):
        return Clip(np.stack([np.asarray(frame.convert("RGB")) for frame in frames]), frame_rate)
    shape = f" of shape {tuple(given.shape)}" if isinstance(given, np.ndarray | torch.Tensor) else ""
    raise InputError(
        f"{name} is a {type(given).__name__}{shape}; expected a path, a Clip, PIL pictures, an array [frames, h, w, 3] or a "
        "tensor [frames, 3, h, w]"
    )


def sound(given: GivenSound, name: str = "audio") -> tuple[np.ndarray, int]:
    """The waveform, float32 [channels, samples], and its samples per second."""
    if isinstance(given, str | Path):
        return read_audio(Path(given))
    if isinstance(given, Clip):
        if given.audio is None or given.sampling_rate is None:
            raise InputError(f"the clip given as {name} has no sound")
        return given.audio, given.sampling_rate
    if not isinstance(given, tuple) or len(given) != 2 or isinstance(given[1], np.ndarray):
        raise InputError(
            f"{name} is a {type(given).__name__}; expected a path, a Clip, or a pair (array [channels, samples], rate)"
        )
    wave, rate = np.atleast_2d(np.asarray(given[0], dtype=np.float32)), number(given[1], f"the rate of {name}", 48000)
    if wave.ndim != 2 or wave.shape[1] == 0 or wave.shape[0] > MAX_CHANNELS or not 0 < rate < math.inf:
        raise InputError(
            f"{name} has shape {wave.shape} at {rate:g} Hz; expected [channels, samples], up to {MAX_CHANNELS} channels, "
            "and a positive rate"
        )
    if not np.isfinite(wave).all():
        raise InputError(f"{name} holds values that are not finite; expected samples around -1 to 1")
    return wave, int(rate)


def grey_levels(array: np.ndarray, name: str) -> np.ndarray:
    """uint8 as it is; floats in 0..1 rounded to the nearest of 256 levels."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.size == 0:
        raise InputError(f"{name} has shape {array.shape}, which is empty")
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} holds {array.dtype} values; expected uint8, or floats between 0 and 1")
    low, high = array.min(), array.max()
    if not 0 <= low <= high <= 1:
        raise InputError(f"{name} holds values from {low:g} to {high:g}; expected floats between 0 and 1, or uint8")
    return np.round(array * 255).astype(np.uint8)


def _fetched(url: str, name: str) -> Image.Image:
    import requests

    try:
        with requests.get(url, timeout=FETCH_SECONDS) as response:
            response.raise_for_status()
            content = response.content
    except requests.RequestException as error:
        raise InputError(f"{name}: no picture at {url}: {error}") from error
    try:
        return load_image(Image.open(BytesIO(content), formats=IMAGE_FORMATS))
    except (OSError, PhonofilmError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: what {url} answers is no picture that is read") from error
