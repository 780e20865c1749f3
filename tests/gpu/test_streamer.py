"""Layers streamed to a device answer what resident ones answer there: call after call, switching experts, with LoRA, in fp8."""

from __future__ import annotations

import copy

import pytest
import torch

from phonofilm.models.joint import JointDenoiser
from phonofilm.models.quantized import quantize_network
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.layer_streaming import LayerStreamer
from tests.gpu.small_models import experts, resident, same, step, tensors


def answers(streamer: LayerStreamer, device: torch.device, expert: int, following: int) -> list[torch.Tensor]:
    inputs, conditionings = step(device)
    return tensors(streamer.forward_many(inputs, conditionings, expert=expert, following=following))


@pytest.mark.parametrize(("slots", "stay", "keep_text"), [(1, 0, False), (2, 1, True), (3, 0, True)])
def test_wrapping_around_and_switching_experts_changes_no_bit(
    device: torch.device, backend: Backend, slots: int, stay: int, keep_text: bool
) -> None:
    both = experts()
    expected = [resident(expert, device) for expert in both]
    streamer = LayerStreamer(both, backend, slots=slots, resident=stay, keep_text=keep_text)
    # The last guess of what follows is wrong.
    for expert, following in ((0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (1, 1)):
        assert same(answers(streamer, device, expert, following), expected[expert])
    streamer.close()
    assert {parameter.device.type for expert in both for parameter in expert.parameters()} == {"cpu"}
    assert same(resident(both[0], device), expected[0])


def test_weights_changed_on_the_host_are_what_is_streamed_next(device: torch.device, backend: Backend) -> None:
    """As when a LoRA is merged between two clips."""
    (high, _) = experts()
    streamer = LayerStreamer([high], backend, slots=2, keep_text=True)
    before = answers(streamer, device, 0, 0)
    for name, parameter in high.named_parameters():
        if name.endswith(("attn.q.weight", "inner.v.weight")):
            parameter.data += 0.3 * torch.outer(parameter[:, 0], parameter[0])
    streamer.weights_changed()
    after = answers(streamer, device, 0, 0)
    streamer.close()
    assert not same(after, before)
    assert same(after, resident(high, device))


def test_fp8_layers_stream_to_the_last_bit(device: torch.device, backend: Backend) -> None:
    (high, _) = experts(torch.bfloat16)
    for network in (high.video, high.audio, high.bridge):
        quantize_network(network, "fp8")
    expected = resident(high, device, torch.bfloat16)
    streamer = LayerStreamer([high], backend, slots=2, keep_text=True)
    inputs, conditionings = step(device, torch.bfloat16)
    for _ in range(3):
        assert same(tensors(streamer.forward_many(inputs, conditionings)), expected)
    streamer.close()


def test_a_released_expert_leaves_the_other_one_right(device: torch.device, backend: Backend) -> None:
    both = experts()
    expected = resident(both[1], device)
    streamer = LayerStreamer(both, backend, slots=2)
    answers(streamer, device, 0, 1)
    streamer.release(0)
    assert same(answers(streamer, device, 1, 1), expected)
    streamer.close()


def test_resident_and_streamed_agree_on_a_copy_in_other_memory(device: torch.device, backend: Backend) -> None:
    """Alignment must not choose another kernel with other rounding."""
    (high, _) = experts()
    other: JointDenoiser = copy.deepcopy(high)
    streamer = LayerStreamer([other], backend, slots=2)
    assert same(answers(streamer, device, 0, 0), resident(high, device))
    streamer.close()
