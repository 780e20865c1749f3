"""Host memory for streaming: huge pages where the system has them, and a refused pin that leaves nothing behind."""

from __future__ import annotations

import mmap
from types import SimpleNamespace

import pytest
import torch

from phonofilm.errors import PhonofilmError
from phonofilm.runtime.backends import CudaBackend
from phonofilm.runtime.slabs import host_memory


def test_memory_is_of_the_exact_size_and_zero_with_or_without_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Refusing(mmap.mmap):
        def madvise(self, option: int, *span: int) -> None:
            asked.append(option)
            raise OSError(22, "Invalid argument")

    for kind in (mmap.mmap, Refusing):
        monkeypatch.setattr(mmap, "mmap", kind)
        memory = host_memory(3 * 2**21 + 5)
        assert memory.numel() == 3 * 2**21 + 5
        assert memory.data_ptr() % mmap.PAGESIZE == 0
        assert not memory.any()
        memory.fill_(7)
    assert asked == ([mmap.MADV_HUGEPAGE] if hasattr(mmap, "MADV_HUGEPAGE") else [])


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    return CudaBackend(torch.device("cuda", 0))


def test_a_refused_pin_leaves_no_error_for_the_next_kernel(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_error = [0]

    def refuse(address: int, nbytes: int, flags: int) -> int:
        last_error[0] = 2
        return 2

    def read_and_clear() -> int:
        error, last_error[0] = last_error[0], 0
        return error

    cudart = SimpleNamespace(cudaHostRegister=refuse, cudaGetLastError=read_and_clear)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    with pytest.raises(PhonofilmError, match="refused to pin"):
        backend.pin(torch.zeros(8, dtype=torch.uint8))
    assert last_error == [0]

    def launch(size: int, device: torch.device) -> torch.Tensor:
        assert read_and_clear() == 2
        raise RuntimeError("CUDA error: out of memory")

    del cudart.cudaGetLastError  # a PyTorch that has no name for it: a kernel's launch check clears it
    monkeypatch.setattr(torch, "zeros", launch)
    with pytest.raises(PhonofilmError, match="refused to pin"):
        backend.pin(torch.empty(8, dtype=torch.uint8))
    assert last_error == [0]
