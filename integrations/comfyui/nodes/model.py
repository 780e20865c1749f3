"""What the Load node gives on: a session, kept for as long as ComfyUI keeps the node's output, and let go when memory is needed.

ComfyUI frees memory by asking the models in its list to leave the device. A session stands in that list as a
`SessionWeights`, which has what the list asks of a model (comfy.model_management, comfy.model_patcher).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as management
import torch

from phonofilm import Session


@dataclass(frozen=True)
class Model:
    """A session with the LoRAs that its clips are made with, each as `--lora` takes them."""

    session: Session
    weights: SessionWeights
    loras: tuple[str, ...] = ()

    def with_lora(self, lora: str) -> Model:
        return replace(self, loras=(*self.loras, lora))

    def take_memory(self) -> None:
        """Ask ComfyUI to make room for the weights, and note that they are in use."""
        management.load_models_gpu([self.weights])


class SessionWeights:
    """A session's weights in ComfyUI's list of loaded models. They come when a clip is made, and leave all at once."""

    parent = None

    def __init__(self, session: Session) -> None:
        self._session = session
        # The list keeps no model alive itself: it holds weak references to this and to `model`.
        self.model = torch.nn.Module()
        device, usual = session.placement.device, management.get_torch_device()
        # The list compares devices: "cuda" would not be taken for the "cuda:0" whose memory is needed.
        self.load_device = usual if device.type == usual.type and device.index is None else device
        self.offload_device = torch.device("cpu")

    def model_size(self) -> int:
        placement = self._session.placement
        return self._session.checkpoint.weight_bytes(placement.dtype.itemsize)

    def loaded_size(self) -> int:
        return self.model_size() if self._session.is_loaded else 0

    def current_loaded_device(self) -> torch.device:
        return self.load_device if self._session.is_loaded else self.offload_device

    def model_dtype(self) -> torch.dtype:
        return self._session.placement.dtype

    def partially_load(self, device: torch.device, extra_memory: float = 0, force_patch_weights: bool = False) -> int:
        return 0  # the session reads its weights itself, into what is free then

    def partially_unload(
        self, device: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False
    ) -> int:
        freed = self.loaded_size()
        self._session.close()
        return freed

    def detach(self, unpatch_all: bool = True) -> torch.nn.Module:
        if unpatch_all:
            self._session.close()
        return self.model

    def is_clone(self, other: Any) -> bool:
        return other is self

    def model_patches_models(self) -> list[Any]:
        return []

    def model_patches_to(self, target: torch.device | torch.dtype) -> None: ...

    def lowvram_patch_counter(self) -> int:
        return 0

    def get_nested_additional_models(self) -> list[Any]:
        return []

    def is_dynamic(self) -> bool:
        return False

    def loaded_ram_size(self) -> int:
        return 0

    def pinned_memory_size(self) -> int:
        return 0

    def partially_unload_ram(self, ram_to_unload: float) -> int:
        return 0

    def cleanup(self) -> None: ...
