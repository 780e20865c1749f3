"""A streamed text encoder says what a resident one says, leaves nothing on the device, and survives what can go wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.conftest import Golden
from tests.unit.test_streaming import FailingBackend, LateBackend
from torch import Tensor
from transformers import UMT5EncoderModel

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_component
from phonofilm.runtime.backends import HostBackend
from phonofilm.runtime.module_streamer import ModuleStreamer

IDS = torch.tensor([[5, 17, 290, 3, 1], [8, 8, 1, 0, 0]])
MASK = (IDS != 0).long()


@pytest.fixture
def encoder(basic: Golden) -> UMT5EncoderModel:
    """Its weights are maps of the checkpoint's file."""
    module = load_component(read_layout(basic.checkpoint), "text_encoder")
    assert isinstance(module, UMT5EncoderModel)
    return module.requires_grad_(False)


def stream(encoder: UMT5EncoderModel, backend: HostBackend, **options: Any) -> ModuleStreamer:
    stack = encoder.encoder
    return ModuleStreamer(stack, stack.block, stack.embed_tokens, backend, **options)


def says(encoder: UMT5EncoderModel) -> Tensor:
    return encoder(IDS, MASK).last_hidden_state


def homes(encoder: UMT5EncoderModel) -> list[int]:
    return [parameter.data_ptr() for parameter in encoder.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("backend", [HostBackend, LateBackend])
def test_streamed_is_bit_identical_to_resident_call_after_call(
    basic: Golden, backend: type[HostBackend], dtype: torch.dtype
) -> None:
    encoder = load_component(
        read_layout(basic.checkpoint), "text_encoder", dtype
    )  # some weights stay float32 in float16
    assert isinstance(encoder, UMT5EncoderModel)
    encoder.requires_grad_(False)
    expected = says(encoder)
    streamer = stream(encoder, backend())
    for _ in range(2):
        assert torch.equal(says(encoder), expected)
    streamer.close()
    assert torch.equal(says(encoder), expected)


def test_a_call_copies_the_blocks_once_and_leaves_the_weights_where_they_were(encoder: UMT5EncoderModel) -> None:
    backend, before = HostBackend(), homes(encoder)
    streamer = stream(encoder, backend)
    says(encoder)
    blocks = sum(parameter.nbytes for parameter in encoder.encoder.block.parameters())
    assert backend.bytes_copied == streamer.streamed_bytes == blocks
    assert backend.allocations == 2
    assert homes(encoder) == before


class PinCounter(FailingBackend):
    pinned = 0

    def pin(self, host: Tensor) -> None:
        self.pinned += 1

    def unpin(self, host: Tensor) -> None:
        self.pinned -= 1


@pytest.mark.parametrize("copies", [0, 7, 13])
def test_a_copy_that_fails_says_which_block_and_the_next_call_is_whole(encoder: UMT5EncoderModel, copies: int) -> None:
    expected, before = says(encoder), homes(encoder)
    backend = PinCounter(copies)
    stream(encoder, backend)
    with pytest.raises(PhonofilmError, match=r"copying block [01] of the text encoder \(.* failed: the link is down"):
        says(encoder)
    assert homes(encoder) == before
    assert backend.pinned == 0
    backend.left = -1
    assert torch.equal(says(encoder), expected)


def test_a_device_without_room_takes_nothing(encoder: UMT5EncoderModel) -> None:
    class Full(PinCounter):
        def allocate(self, nbytes: int) -> Tensor:
            raise torch.OutOfMemoryError("no room")

    before, backend = homes(encoder), Full(-1)
    streamer = stream(encoder, backend)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        says(encoder)
    assert homes(encoder) == before
    assert backend.pinned == 0
    streamer.close()
    assert says(encoder).isfinite().all()


def test_an_error_inside_a_block_leaves_the_encoder_usable(encoder: UMT5EncoderModel) -> None:
    expected = says(encoder)
    stream(encoder, LateBackend())

    def fails(*_: object) -> None:
        raise ValueError("not today")

    hook = encoder.encoder.block[1].layer[0].register_forward_pre_hook(fails)
    with pytest.raises(ValueError, match="not today"):
        says(encoder)
    hook.remove()
    assert torch.equal(says(encoder), expected)


def test_room_is_made_before_anything_is_taken(encoder: UMT5EncoderModel) -> None:
    backend, seen = HostBackend(), []
    stream(encoder, backend, before=lambda: seen.append(backend.allocations))
    says(encoder)
    assert seen == [0]


def test_weights_that_are_not_in_host_memory_are_refused(encoder: UMT5EncoderModel) -> None:
    with pytest.raises(InputError, match="on meta cannot be streamed"):
        stream(encoder.to("meta"), HostBackend())
