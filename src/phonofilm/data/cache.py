"""A data set as latents and text on disk, keyed by content: what has not changed is kept, what has is made anew, no more.

A cache folder holds latents/KEY.safetensors (video, condition, audio), text/KEY.safetensors (tokens, embeds) and
index.json, which says which keys make up the set. The index is written last; what it does not name is then removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from phonofilm.data.cache_keys import autoencoder_hash, latent_key, remembering_hashes, text_hash, text_key, white_key
from phonofilm.data.encoders import MASK_CHANNELS, CaptionText, EncodedWindow, Encoders
from phonofilm.data.sets import Weighted
from phonofilm.data.windows import Bucket, ClipWindow, parse_bucket
from phonofilm.errors import InputError, MediaError
from phonofilm.files import replacing
from phonofilm.pipeline.conditions import clean_prompt
from phonofilm.untrusted import read_json_file

INDEX = "index.json"
LATENTS, TEXT = "latents", "text"
GIVEN = "given"  # mask and latents of given frames, where an entry has no clip

CacheProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One window of the set: where it comes from, and the keys of its latents and of its caption's text."""

    name: str
    bucket: str
    caption: str
    latents: str
    text: str
    has_audio: bool
    weight: float


@dataclass(frozen=True)
class Index:
    """What a cache holds. model: the checkpoint as it was named. whites: a white first frame's key for each bucket.
    empty: the key of the empty caption's text. captions_only: it holds captions and given frames, and no clips."""

    model: str
    autoencoders: str
    frame_rate: str
    entries: tuple[Entry, ...]
    whites: dict[str, str]
    empty: str
    captions_only: bool = False

    @property
    def rate(self) -> Fraction:
        return Fraction(self.frame_rate)


@dataclass(frozen=True)
class Built:
    """How many items an update made, found still valid, and removed because nothing names them any more."""

    latents_made: int = 0
    latents_kept: int = 0
    text_made: int = 0
    text_kept: int = 0
    removed: int = 0


def update_cache(
    folder: Path, entries: Sequence[Weighted], model: str, encoders: Encoders, progress: CacheProgress | None = None
) -> Built:
    """Bring the cache in `folder` to exactly these windows. Interrupted, it goes on from where it was.

    `progress(done, total)` counts windows. Raises InputError for windows without a caption or of a size that the model
    cannot make, before anything is encoded.
    """
    planned = plan_cache(entries, model, encoders)
    made_latents = 0
    for number, (key, window) in enumerate(planned.windows.items(), start=1):
        made_latents += write_window(folder, key, window, encoders)
        if progress is not None:
            progress(number, len(planned.windows))
    made_text, removed = write_around(folder, planned.index, encoders)
    return planned.built(made_latents, made_text, removed)


@dataclass(frozen=True)
class PlannedCache:
    """What a finished cache will hold: its index, and the window of each key of latents."""

    index: Index
    windows: dict[str, ClipWindow]

    @property
    def captions(self) -> dict[str, str]:
        """The caption of each key of text, the empty one's too."""
        return {entry.text: entry.caption for entry in self.index.entries} | {self.index.empty: ""}

    def built(self, latents_made: int, text_made: int, removed: int) -> Built:
        """The account of an update that made so many; the rest was there."""
        kept, texts = len(self.windows) - latents_made, len(self.captions)
        return Built(latents_made, kept, text_made, texts - text_made, removed)

    def lacking(self, folder: Path) -> Lacking:
        """What the folder does not have yet."""

        def is_missing(kind: str, key: str) -> bool:
            return not _path(folder, kind, key).exists()

        return Lacking(
            {key: window for key, window in self.windows.items() if is_missing(LATENTS, key)},
            {bucket: key for bucket, key in self.index.whites.items() if is_missing(LATENTS, key)},
            {key: caption for key, caption in self.captions.items() if is_missing(TEXT, key)},
        )


@dataclass(frozen=True)
class Lacking:
    """What is still to be encoded: windows by their keys, keys of white frames by their buckets, captions by their keys."""

    windows: dict[str, ClipWindow]
    whites: dict[str, str]
    captions: dict[str, str]


def write_window(folder: Path, key: str, window: ClipWindow, encoders: Encoders) -> bool:
    """The window's latents, if they are not there yet. Returns whether they were made. Raises MediaError."""
    if _path(folder, LATENTS, key).exists():
        return False
    latents = encoders.latents(window)
    _check_finite(latents, window)
    _write(_path(folder, LATENTS, key), vars(latents))
    return True


def write_white(folder: Path, key: str, bucket: str, rate: Fraction, encoders: Encoders) -> None:
    """The condition of a white first frame of this size, if it is not there yet."""
    if not _path(folder, LATENTS, key).exists():
        _write(_path(folder, LATENTS, key), {"condition": encoders.white(parse_bucket(bucket), rate)})


def write_text(folder: Path, key: str, caption: str, encoders: Encoders) -> bool:
    """A caption's text, if it is not there yet. Returns whether it was made."""
    if _path(folder, TEXT, key).exists():
        return False
    _write(_path(folder, TEXT, key), vars(encoders.text(caption)))
    return True


def write_around(folder: Path, index: Index, encoders: Encoders) -> tuple[int, int]:
    """White frames, texts and the index, once the entries' latents are there; what nothing names any more is removed.

    Returns how many texts were made and how many items removed.
    """
    captions = {entry.text: entry.caption for entry in index.entries} | {index.empty: ""}
    for bucket, key in index.whites.items():
        write_white(folder, key, bucket, index.rate, encoders)
    made = sum(write_text(folder, key, caption, encoders) for key, caption in captions.items())
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(asdict(index), ensure_ascii=False, indent=1), encoding="utf-8")
    latents = {entry.latents for entry in index.entries}
    return made, _remove_all_but(folder, {*latents, *index.whites.values()}, set(captions))


def write_given_frames(folder: Path, key: str, make: Callable[[], Tensor]) -> bool:
    """Mask and latents of given frames, if they are not there yet. Returns whether they were made."""
    if _path(folder, LATENTS, key).exists():
        return False
    _write(_path(folder, LATENTS, key), {GIVEN: make()})
    return True


def _check_finite(latents: EncodedWindow, window: ClipWindow) -> None:
    """Raises MediaError: training on such latents would fail much later, and not name the clip."""
    for track, tensor in vars(latents).items():
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise MediaError(
                f"{window.name}: {bad} of the {tensor.numel()} numbers of its {track} latents are not finite; look at the clip "
                f"({window.item.file}) with phonofilm data doctor, and leave it out"
            )


def read_index(folder: Path) -> Index:
    """The index of a cache. Raises InputError when there is none or it is of another format."""
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{folder} is no cache: it has no {INDEX}; make one with phonofilm data cache")
    try:
        values = read_json_file(path)
        return Index(**{**values, "entries": tuple(Entry(**entry) for entry in values["entries"])})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); make the cache again") from error


def read_cached_window(folder: Path, key: str) -> EncodedWindow:
    return EncodedWindow(**_read(_path(folder, LATENTS, key)))


def read_given_frames(folder: Path, key: str) -> Tensor:
    """[4+c,f,h,w]: mask and latents of the frames that an entry gives; a clip gives its first one."""
    tensors = _read(_path(folder, LATENTS, key))
    if GIVEN in tensors:
        return tensors[GIVEN]
    return torch.cat([first_frame_mask(tensors["condition"]), tensors["condition"]])


def first_frame_mask(latents: Tensor) -> Tensor:
    """[4,f,h,w], 1 in the first of the latent frames [c,f,h,w]."""
    mask = latents.new_zeros(MASK_CHANNELS, *latents.shape[1:])
    mask[:, 0] = 1
    return mask


def read_white(folder: Path, key: str) -> Tensor:
    return _read(_path(folder, LATENTS, key))["condition"]


def read_text(folder: Path, key: str) -> CaptionText:
    return CaptionText(**_read(_path(folder, TEXT, key)))


def plan_cache(entries: Sequence[Weighted], model: str, encoders: Encoders) -> PlannedCache:
    """What the finished cache will hold; hashes every clip's bytes, encodes nothing. Raises InputError."""
    if not entries:
        raise InputError("no windows were given; there is nothing to cache")
    bare = [entry.window.item for entry in entries if not entry.window.item.caption]
    if bare:
        raise InputError(
            f"{len(bare)} windows have no caption, the first of them in {bare[0].name} ({bare[0].origin}); "
            "phonofilm data doctor lists them all"
        )
    autoencoders, text = autoencoder_hash(encoders.layout), text_hash(encoders.layout)
    rate = entries[0].window.frame_rate
    buckets: list[Bucket] = sorted({entry.window.bucket for entry in entries})
    for bucket in buckets:
        encoders.geometry(bucket, rate)
    hash_of = remembering_hashes()
    planned = []
    for entry in entries:
        caption = clean_prompt(entry.window.item.caption or "")
        key = latent_key(entry.window, autoencoders, hash_of)
        about = (entry.window.name, str(entry.window.bucket), caption, key, text_key(caption, text))
        planned.append(Entry(*about, entry.window.has_audio, entry.weight))
    whites = {str(bucket): white_key(bucket, rate, autoencoders) for bucket in buckets}
    index = Index(model, autoencoders, str(rate), tuple(planned), whites, text_key("", text))
    return PlannedCache(index, {one.latents: entry.window for one, entry in zip(planned, entries, strict=True)})


def _path(folder: Path, kind: str, key: str) -> Path:
    return folder / kind / f"{key}.safetensors"


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is missing; run phonofilm data cache again")
    result: dict[str, Tensor] = load_file(path)
    return result


def _remove_all_but(folder: Path, latents: set[str], text: set[str]) -> int:
    stale = [
        path
        for kind, keys in ((LATENTS, latents), (TEXT, text))
        for path in (folder / kind).glob("*.safetensors")
        if path.stem not in keys
    ]
    for path in stale:
        path.unlink()
    return len(stale)
