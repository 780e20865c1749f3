"""What a metric needs beside the clip: packages, files of weights, keys. As data, so that it can be checked and printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A Python package that an extra brings. module: what is imported."""

    module: str
    extra: str


@dataclass(frozen=True)
class WeightFile:
    """A published file that nothing downloads for you.

    sha256: 64 hexadecimal digits; "first...last" where only its ends are published; empty where none is. rounded: `nbytes`
    is known to three digits only.
    """

    name: str
    nbytes: int
    sha256: str
    licence: str
    source: str
    rounded: bool = False


@dataclass(frozen=True)
class Requirements:
    """Everything that must be there before a clip is measured.

    picture, sound, prompt: what the clip itself must have; a clip without it is not applicable. keys: environment variables.
    settings: options that are missing under this setup, one clause each.
    """

    packages: tuple[Package, ...] = ()
    weights: tuple[WeightFile, ...] = ()
    keys: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    picture: bool = False
    sound: bool = False
    prompt: bool = False
