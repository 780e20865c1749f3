"""Whether a file looks like a LoRA, by its header alone and without PyTorch: for a list of what may be asked for later."""

from __future__ import annotations

import re
from pathlib import Path

from phonofilm.untrusted import file_fault, parse_json

MAX_HEADER_BYTES = 100_000_000
_ADAPTER = re.compile(r"\blora_(?:A|B|up|down)\b")


def lora_fault(path: Path) -> str | None:
    """What is wrong with a .safetensors file as a LoRA, as a clause; None for nothing that its header shows.

    Pickles are not opened. That the layers fit a model is found when it is read for one.
    """
    if (fault := file_fault(path)) is not None:
        return fault
    if path.suffix != ".safetensors":
        return None
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            return "it is no safetensors file, or cut off"
        text = stream.read(length)
    try:
        header = parse_json(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        cut_off = 8 + length + max(ends, default=0) > size
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "its safetensors header is damaged"
    if cut_off:
        return "it is cut off"
    if not any(_ADAPTER.search(name) for name in header):
        return "none of its tensors is a LoRA's (lora_A and lora_B, or lora_down and lora_up)"
    return None
