"""What a device offers the streamer: two queues ordered by events, and copies on one of them. For CUDA, and for the host."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor

from phonofilm.errors import PhonofilmError

logger = logging.getLogger(__name__)


class Queue(Enum):
    """The two lines of work of a device. Within one, work runs in the order it was given."""

    COPY = "copy"
    COMPUTE = "compute"


class Queues(Protocol):
    """Two queues and events between them. Waiting for an event that was never recorded waits for nothing."""

    def event(self) -> Any: ...

    def record(self, event: Any, queue: Queue) -> None:
        """`event` happens once `queue` has done all it was given so far."""

    def wait(self, event: Any, queue: Queue) -> None:
        """`queue` does nothing more until `event`, as last recorded, has happened. The caller goes on at once."""


class Backend(Queues, Protocol):
    """A device with memory. Nothing but `finish` and `synchronize` makes the host wait."""

    device: torch.device

    def allocate(self, nbytes: int) -> Tensor:
        """Device memory: uint8 [nbytes]."""

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Give the copy queue a copy from the host's `source` to the device's `target`, both uint8 [n]."""

    def pin(self, host: Tensor) -> None:
        """Make host memory one the device can copy from by itself."""

    def unpin(self, host: Tensor) -> None: ...

    def finish(self, event: Any) -> None:
        """Wait until `event`, as last recorded, has happened."""

    def synchronize(self) -> None:
        """Wait until both queues are empty."""


class HostBackend:
    """The host as the device: copies are real and done at once, so every event has happened when it is recorded.

    Streams a model through slots on a machine without a GPU, and shows what was done in its counts.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.bytes_copied = 0
        self.allocations = 0
        self.synchronizations = 0

    def event(self) -> object:
        return object()

    def record(self, event: object, queue: Queue) -> None: ...

    def wait(self, event: object, queue: Queue) -> None: ...

    def allocate(self, nbytes: int) -> Tensor:
        self.allocations += 1
        return torch.empty(nbytes, dtype=torch.uint8)

    def copy(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source)
        self.bytes_copied += source.numel()

    def pin(self, host: Tensor) -> None: ...

    def unpin(self, host: Tensor) -> None: ...

    def finish(self, event: object) -> None: ...

    def synchronize(self) -> None:
        self.synchronizations += 1


class CudaBackend:
    """A CUDA device: the compute queue is whatever stream is current, the copy queue a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies = torch.cuda.Stream(device)

    def event(self) -> torch.cuda.Event:
        return torch.cuda.Event()

    def record(self, event: torch.cuda.Event, queue: Queue) -> None:
        event.record(self._stream(queue))

    def wait(self, event: torch.cuda.Event, queue: Queue) -> None:
        self._stream(queue).wait_event(event)

    def allocate(self, nbytes: int) -> Tensor:
        memory = torch.empty(nbytes, dtype=torch.uint8, device=self.device)
        # The allocator may hand out memory that the compute stream is not done with yet: copies come after that.
        self._copies.wait_stream(self._stream(Queue.COMPUTE))
        return memory

    def copy(self, source: Tensor, target: Tensor) -> None:
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)

    def pin(self, host: Tensor) -> None:
        code = torch.cuda.cudart().cudaHostRegister(host.data_ptr(), host.numel(), 0)
        if int(code) != 0:
            self._clear_last_error()
            raise PhonofilmError(
                f"the CUDA driver refused to pin {host.numel() / 1e6:.0f} MB of host memory (error {int(code)}); "
                "raise the limit of locked memory (ulimit -l), free some memory, or do not stream"
            )

    def unpin(self, host: Tensor) -> None:
        torch.cuda.cudart().cudaHostUnregister(host.data_ptr())

    def finish(self, event: torch.cuda.Event) -> None:
        event.synchronize()

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def _clear_last_error(self) -> None:
        """CUDA keeps a refusal as its last error, and PyTorch raises that at the next kernel: in the middle of `close()`."""
        cudart = torch.cuda.cudart()
        if hasattr(cudart, "cudaGetLastError"):
            cudart.cudaGetLastError()
            return
        try:
            torch.zeros(1, device=self.device)  # what checks its launch reads the last error, and so clears it
        except RuntimeError as error:
            logger.debug("cleared CUDA's last error: %s", error)

    def _stream(self, queue: Queue) -> torch.cuda.Stream:
        return self._copies if queue is Queue.COPY else torch.cuda.current_stream(self.device)
