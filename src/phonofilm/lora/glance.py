"""Whether a file is a LoRA, by its header alone and without PyTorch: for a list of what may be asked for later."""

from __future__ import annotations

from pathlib import Path

from phonofilm.errors import CheckpointError
from phonofilm.lora.tensor_roles import EXPECTED, by_layer
from phonofilm.models.checkpoint_files import listed
from phonofilm.models.tensor_header import read_declared
from phonofilm.untrusted import shown


def check_looks_like_lora(path: Path) -> None:
    """Raises CheckpointError for a .safetensors file that is damaged, or whose tensors' names are not those of a LoRA alone.

    A tensor that is none of a LoRA's is refused when the file is read (reading.py), lest a part of what it should do be left
    out in silence; so a file with some of both is no LoRA here either. Pickles are not opened. That the layers fit a model is
    found when it is read for one.
    """
    if path.suffix != ".safetensors":
        return
    layers, strange = by_layer({one.key: one for one in read_declared(path)})
    if not any({"down", "up"} & roles.keys() for roles in layers.values()):
        raise CheckpointError(f"{path} is no LoRA: none of its tensors is one's ({EXPECTED})")
    if strange:
        raise CheckpointError(f"{path} has tensors that are no part of a LoRA ({EXPECTED}): {listed(strange)}")
    for layer, roles in layers.items():
        for half, name in (("down", "lora_A"), ("up", "lora_B")):
            if half not in roles:
                raise CheckpointError(f"{path} has half a LoRA: {shown(layer)} lacks its {name}")
