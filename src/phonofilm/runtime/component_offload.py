"""Components (autoencoders, say) that are on the device only while they run."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import Tensor, nn


class ComponentOffload(ModelHook):
    """Brings `module` to `device` before it runs, as a hook of accelerate and diffusers; `offload` takes it back.

    The host keeps its own copy, so offloading copies nothing, and changes made on the device are lost. `device` is also
    where diffusers takes its pipeline to run.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.execution_device = device
        self._module = module
        self._host_data: dict[Tensor, Tensor] = {}
        add_hook_to_module(module, self)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Called before the module runs."""
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor not in self._host_data and tensor.device != self.execution_device:
                self._host_data[tensor] = tensor.data
                tensor.data = tensor.data.to(self.execution_device)
        return args, kwargs

    def offload(self) -> None:
        """Give the device's memory back. Does nothing for a module that is not there."""
        for tensor, data in self._host_data.items():
            tensor.data = data
        self._host_data.clear()

    def remove(self) -> None:
        """Offload, and take the hook off the module."""
        self.offload()
        remove_hook_from_module(self._module)
