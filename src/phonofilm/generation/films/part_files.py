"""The finished parts of a film that is being made, kept beside it so that a run that stopped goes on where it stopped.

NAME.parts/film.json says what film they are of; NAME.parts/N.safetensors is part N, lossless, with what its sampling took in the
header. The folder goes when the film is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.files import replacing
from phonofilm.media.clip import Clip
from phonofilm.untrusted import read_json_file, shown

ACCOUNT = "film.json"


@dataclass(frozen=True)
class Part:
    """A finished part, and how many evaluations of the model it took and how many steps a cache spared."""

    clip: Clip
    forwards: int
    steps_skipped: int


@dataclass(frozen=True)
class PartFolder:
    """The parts of one film; `account` is what decides them, the seed among it."""

    folder: Path
    account: Mapping[str, Any]

    def load(self, number: int, frame_rate: Fraction, sampling_rate: int) -> Part | None:
        """Part `number`, counted from 1, or None when it is not there. Raises MediaError for one that is damaged."""
        from safetensors import SafetensorError, safe_open

        file = self._file(number)
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="numpy") as opened:
                clip = Clip(opened.get_tensor("frames"), frame_rate, opened.get_tensor("audio"), sampling_rate)
                taken: Mapping[str, str] = opened.metadata() or {}
                return Part(clip, int(taken["forwards"]), int(taken["steps_skipped"]))
        except (SafetensorError, LookupError, ValueError, OSError, InputError) as error:
            raise MediaError(f"{file} is damaged ({shown(error)}); remove it to make that part again") from error

    def keep(self, number: int, part: Part) -> None:
        """Write part `number`, whole."""
        from safetensors.numpy import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        account = self.folder / ACCOUNT
        if not account.exists():
            with replacing(account) as temporary:
                temporary.write_text(json.dumps(self.account, indent=2, ensure_ascii=False), encoding="utf-8")
        assert part.clip.audio is not None
        tracks = {"frames": np.ascontiguousarray(part.clip.frames), "audio": np.ascontiguousarray(part.clip.audio)}
        taken = {"forwards": str(part.forwards), "steps_skipped": str(part.steps_skipped)}
        with replacing(self._file(number)) as temporary:
            save_file(tracks, temporary, metadata=taken)

    def remove(self) -> None:
        """The film is written: its parts are no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.safetensors"


def parts_folder(output: Path) -> Path:
    """Where the parts of a film are kept until it is written."""
    return output.with_name(f"{output.name}.parts")


def kept_account(output: Path) -> Mapping[str, Any] | None:
    """What the parts beside `output` are of, or None where there are none. Raises MediaError for what cannot be read."""
    file = parts_folder(output) / ACCOUNT
    if not file.is_file():
        return None
    try:
        account = read_json_file(file)
    except (ValueError, OSError) as error:
        raise MediaError(f"{file} is damaged ({error}); remove the folder to make the film from the start") from error
    if not isinstance(account, dict):
        raise MediaError(f"{file} is damaged; remove the folder to make the film from the start")
    return account


def open_parts(output: Path, account: Mapping[str, Any], overwrite: bool) -> PartFolder:
    """The folder for a film's parts, with those that are there. Raises InputError when they are of another film, and
    `overwrite` does not say that they may go."""
    # As JSON has it, in which a tuple is a list.
    wanted = json.loads(json.dumps(account))
    found, folder = kept_account(output), parts_folder(output)
    if found is not None and found != wanted:
        differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        if not overwrite:
            raise InputError(
                f"{folder} holds parts of a film that was begun with another {', '.join(differing)}; begin it with the same "
                "to go on, remove the folder, or replace it (--overwrite, in Python overwrite=True)"
            )
        shutil.rmtree(folder)
    return PartFolder(folder, wanted)
