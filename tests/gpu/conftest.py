"""The device of a test: the host in every run, where the path has a form there; a card in `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

from phonofilm.runtime.backends import Backend, CudaBackend, HostBackend

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device("cuda", 0)


@pytest.fixture
def backend(device: torch.device) -> Backend:
    """What streams to `device`."""
    return CudaBackend(device) if device.type == "cuda" else HostBackend()


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """Float32 means float32: cuDNN would convolve in tf32."""
    torch.backends.cudnn.allow_tf32 = False
