"""Device, precision, offloading and attention by their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.placement.attention import attention_of
from phonofilm.generation.placement.devices import (
    DevicePlacement,
    choose_device,
    choose_placement,
    explaining_memory,
)


def test_the_cpu_runs_in_float32_unless_told() -> None:
    assert choose_placement("cpu").dtype == torch.float32
    assert choose_placement("cpu", "bfloat16").dtype_name == "bfloat16"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"device": "meta"}, "device 'meta' is not supported"),
        ({"device": "cuda:99"}, "device cuda:99 is not here"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown"),
        ({"offload": "disk"}, "offload 'disk' is unknown"),
        ({"device": "cpu", "attention": "magic"}, "attention backend 'magic' is unknown; known are .*native"),
        ({"device": "cpu", "attention": "xformers"}, "attention backend xformers is not installed: .*install"),
        ({"device": "cpu", "attention": "native_flash"}, "attention backend native_flash does not work on cpu"),
        ({"offload": "cpu", "disk": Path("x")}, "offload is cpu; use offload group"),
    ],
)
def test_words_that_cannot_be_followed_are_refused(words: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        choose_placement(**words)  # type: ignore[arg-type]


def test_mps_is_refused_where_there_is_none() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this placement has an Apple GPU")
    with pytest.raises(InputError, match="mps is not here"):
        choose_device("mps")


def test_the_attention_backend_is_in_force_while_the_networks_run() -> None:
    placement = choose_placement("cpu", attention="native_math")
    assert placement.attention == "_native_math"
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()[0]
    with attention_of(placement):
        assert _AttentionBackendRegistry.get_active_backend()[0].value == "_native_math"
    assert _AttentionBackendRegistry.get_active_backend()[0] == before


def test_running_out_of_memory_says_what_helps() -> None:
    placement = DevicePlacement(torch.device("cpu"), torch.float32)
    with (
        pytest.raises(PhonofilmError, match="out of memory on cpu; try a smaller size"),
        explaining_memory(placement),
    ):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="other"), explaining_memory(placement):
        raise RuntimeError("other")


@pytest.mark.parametrize(
    ("used", "several", "advice"),
    [
        ({}, False, "vae_tiling=True (if it was the decoder), offload=layer, a lower vram_limit"),
        ({"vae_tiling": True, "offload": "model"}, False, "offload=layer, a lower vram_limit"),
        ({"vae_tiling": True, "offload": "layer", "resident": 4}, False, "a lower vram_limit"),
        ({"vae_tiling": True, "offload": "layer"}, False, "slots=1"),
        ({"vae_tiling": True}, True, "more gpus, shard_weights=True"),
    ],
)
def test_a_gpu_that_is_full_is_told_only_what_would_change_something(
    used: dict[str, Any], several: bool, advice: str
) -> None:
    placement = DevicePlacement(torch.device("cuda"), torch.bfloat16, **used)
    with pytest.raises(PhonofilmError) as error, explaining_memory(placement, several):
        raise torch.OutOfMemoryError("tried to allocate 1 GB")
    assert str(error.value) == f"out of memory on cuda; try a smaller size, fewer frames, {advice}"
