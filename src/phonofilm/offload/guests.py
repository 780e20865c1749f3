"""Components that come to the device only while they work."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import Tensor, nn


class Guest(ModelHook):
    """Brings `module` to `device` before it runs (accelerate's and diffusers' way of asking); `leave` takes it back.

    The host keeps its own copy, so leaving costs nothing, and changes made on the device are lost. `device` is also where
    diffusers takes its pipeline to run.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.execution_device = device
        self._module = module
        self._at_home: dict[Tensor, Tensor] = {}
        add_hook_to_module(module, self)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Called before the module runs."""
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor not in self._at_home and tensor.device != self.execution_device:
                self._at_home[tensor] = tensor.data
                tensor.data = tensor.data.to(self.execution_device)
        return args, kwargs

    def leave(self) -> None:
        """Give the device's memory back. Does nothing for a module that is not there."""
        for tensor, data in self._at_home.items():
            tensor.data = data
        self._at_home.clear()

    def dismiss(self) -> None:
        """Leave, and come no more."""
        self.leave()
        remove_hook_from_module(self._module)
