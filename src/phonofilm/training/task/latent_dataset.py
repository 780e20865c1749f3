"""The training set as numbers: latents and prompts written once, memory-mapped, drawn in an order that needs no state.

A folder holds `video.npy` [n,c,f,h,w] and `condition.npy` (normalised; the condition is that of the clip's first frame),
`audio.npy` [n,c,m], `tokens.npy` int [n,l], `lengths.npy` int [n], `has_audio.npy` bool [n] (optional: all true),
`white.npy` [c,f,h,w] (condition of a white first frame), `empty_tokens.npy` int [k] (the prompt a dropped caption
becomes) and `meta.json`. Latents may be stored as float16 or float32; they are handed out as float32.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.training.task.objective import Sample
from phonofilm.untrusted import file_fault, read_json_file, shown

PER_CLIP = ("video", "condition", "audio", "tokens", "lengths")
SHARED = ("white", "empty_tokens")


@dataclass(frozen=True)
class LatentMeta:
    """What the numbers cannot say: frames per second, and how many text positions the towers attend to."""

    frame_rate: float
    text_length: int = 512


@dataclass(frozen=True)
class TokenPrompts:
    """Token ids [b,l] cut to the longest prompt, and each one's length [b], on the host (both int64)."""

    tokens: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts that went through the text encoder already: embeds [b,l,d], zero past each one's length [b] (on the host)."""

    embeds: Tensor
    lengths: Tensor


class LatentDataset:
    """One such folder, opened lazily: rows are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = _read_meta(self._path("meta.json"))
        self.arrays = {name: self._open(f"{name}.npy") for name in (*PER_CLIP, *SHARED)}
        count = self.arrays["video"].shape[0]
        if count == 0:
            raise InputError(f"{folder} holds no clips")
        self.arrays["has_audio"] = (
            self._open("has_audio.npy") if (folder / "has_audio.npy").exists() else torch.ones(count, dtype=torch.bool)
        )
        for name in (*PER_CLIP, "has_audio"):
            if self.arrays[name].shape[0] != count:
                raise InputError(f"{folder}: {name}.npy has {self.arrays[name].shape[0]} rows, video.npy has {count}")
        for name in ("condition", "white"):
            if self.arrays[name].shape[-4:] != self.arrays["video"].shape[-4:]:
                raise InputError(f"{folder}: {name}.npy does not have the latent shape of video.npy")

    def __len__(self) -> int:
        return self.arrays["video"].shape[0]

    def to(self, device: torch.device) -> LatentDataset:
        """Move every array to `device`, which saves the copies where the set fits."""
        self.arrays = {name: array.to(device) for name, array in self.arrays.items()}
        return self

    def sample(self, rows: Tensor, device: torch.device) -> Sample:
        """Latents of these rows (int64, on the host) as float32 on `device`."""
        names = ("video", "condition", "audio")
        video, condition, audio = (self._rows(name, rows).to(device).float() for name in names)
        has_audio = self._rows("has_audio", rows).cpu()
        return Sample(video, condition, audio, has_audio, self.arrays["white"].to(device).float())

    def prompts(self, rows: Tensor, device: torch.device) -> TokenPrompts:
        lengths = self._rows("lengths", rows).long().cpu()
        tokens = self._rows("tokens", rows)[:, : int(lengths.max())].long()
        return TokenPrompts(tokens.to(device), lengths)

    def empty_prompt(self, device: torch.device) -> TokenPrompts:
        """The prompt of a dropped caption, as a batch of one."""
        tokens = self.arrays["empty_tokens"].long().to(device)[None]
        return TokenPrompts(tokens, torch.tensor([tokens.shape[1]]))

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        array = self.arrays[name]
        return array.index_select(0, rows.to(array.device))

    def _path(self, name: str) -> Path:
        path = self.folder / name
        fault = file_fault(path)
        if fault is not None:
            raise InputError(f"{self.folder} has no {name} ({fault}); expected a folder of cached latents")
        return path

    def _open(self, name: str) -> Tensor:
        path = self._path(name)
        try:
            # Copy-on-write maps nothing into memory until it is read, and gives torch the writable buffer it wants.
            return torch.from_numpy(np.load(path, mmap_mode="c"))
        except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
            raise InputError(f"{path} is no array of numbers: {error}; write the folder again") from error


def _read_meta(path: Path) -> LatentMeta:
    try:
        return LatentMeta(**read_json_file(path))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {shown(error)}; write the folder again") from error


class ShuffledOrder:
    """Which rows the k-th draw takes: one permutation per epoch, a pure function of seed and k, so nothing is saved."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def rows(self, first: int, count: int) -> Tensor:
        """Rows of draws first .. first + count - 1, running on into the next epochs."""
        return torch.tensor([self._row(draw) for draw in range(first, first + count)])

    def _row(self, draw: int) -> int:
        epoch, place = divmod(draw, self.size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._order = torch.randperm(self.size, generator=generator)
            self._epoch = epoch
        return int(self._order[place])


class LatentWriter:
    """Writes such a folder row by row, without holding it in memory. Close it (or use `with`) to make it complete."""

    def __init__(
        self, folder: Path, count: int, video: tuple[int, ...], audio: tuple[int, ...], text: int, meta: LatentMeta
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.meta = meta
        shapes = {"video": video, "condition": video, "audio": audio, "tokens": (text,), "lengths": (), "has_audio": ()}
        kinds = {"tokens": np.int32, "lengths": np.int32, "has_audio": np.bool_}
        self._arrays = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy", mode="w+", dtype=kinds.get(name, np.float16), shape=(count, *shape)
            )
            for name, shape in shapes.items()
        }

    def put(
        self, first: int, video: Tensor, condition: Tensor, audio: Tensor, prompts: list[list[int]], has_audio: Tensor
    ) -> None:
        """Write the clips first, first + 1, ...; `prompts` are token ids with their end mark and without padding."""
        rows = slice(first, first + video.shape[0])
        for name, value in (("video", video), ("condition", condition), ("audio", audio), ("has_audio", has_audio)):
            self._arrays[name][rows] = value.detach().cpu().numpy()
        width = self._arrays["tokens"].shape[1]
        for row, tokens in enumerate(prompts, start=first):
            if len(tokens) > width:
                raise InputError(f"a prompt of {len(tokens)} tokens does not fit the {width} this folder was made for")
            self._arrays["tokens"][row, : len(tokens)] = tokens
            self._arrays["lengths"][row] = len(tokens)

    def close(self, white: Tensor, empty_tokens: list[int]) -> None:
        for array in self._arrays.values():
            array.flush()
        np.save(self.folder / "white.npy", white.detach().cpu().numpy().astype(np.float32))
        np.save(self.folder / "empty_tokens.npy", np.asarray(empty_tokens, dtype=np.int32))
        (self.folder / "meta.json").write_text(json.dumps(asdict(self.meta)))
