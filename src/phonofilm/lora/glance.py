"""Whether a file looks like a LoRA, by its header alone and without PyTorch: for a list of what may be asked for later."""

from __future__ import annotations

import re
from pathlib import Path

from phonofilm.errors import CheckpointError
from phonofilm.models.tensor_header import read_declared

_ADAPTER = re.compile(r"\blora_(?:A|B|up|down)\b")


def check_looks_like_lora(path: Path) -> None:
    """Raises CheckpointError for a .safetensors file that is damaged, or no LoRA by the names of its tensors.

    Pickles are not opened. That the layers fit a model is found when it is read for one.
    """
    if path.suffix == ".safetensors" and not any(_ADAPTER.search(one.key) for one in read_declared(path)):
        raise CheckpointError(
            f"{path} is no LoRA: none of its tensors is one's (lora_A and lora_B, or lora_down and lora_up)"
        )
