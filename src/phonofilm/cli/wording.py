"""Messages of the library in the words of the command line: `offload="layer"` becomes `--offload layer`."""

from __future__ import annotations

import re
from dataclasses import fields

from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions


def in_flags(message: str) -> str:
    """The message with `name=value` as an option and its value, and the hardware's two-word names as options.

    What is quoted stays as it was given, and so does `audio=0.5`, the strength of a LoRA's part: `--audio` takes a file.
    """
    hardware = [field.name for field in fields(HardwareOptions)]
    names = [*hardware, *(field.name for field in fields(ClipOptions)), "model", "prompts", "remove_video_dit"]
    strength = r"(?:video|audio)=-?[\d.]+(?![\w.])"
    given = re.compile(rf"(?<![\w\-(,:.'\"])(?!{strength})({'|'.join(names)})=(?:\"([^\"]*)\"|([\w.:/-]*[\w/]))?")
    message = given.sub(_option, message)
    two_words = [name for name in (*hardware, "remove_video_dit") if "_" in name]
    return re.sub(rf"(?<![\w-])({'|'.join(two_words)})(?!\w)", lambda found: _flag(found[1]), message)


def _option(found: re.Match[str]) -> str:
    value = found[2] or found[3]
    return _flag(found[1]) if value in (None, "True") else f"{_flag(found[1])} {value}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
