"""A streamed denoiser gives the very numbers of a resident one, whatever the slots, and survives what can go wrong."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from tests.conftest import Golden
from torch import Tensor

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs
from phonofilm.models.video import WanModel
from phonofilm.runtime.backends import HostBackend, Queue
from phonofilm.runtime.layer_groups import text_parameters
from phonofilm.runtime.layer_streaming import LayerStreamer, spread
from phonofilm.runtime.slabs import ALIGNMENT


@pytest.fixture
def experts(basic: Golden) -> list[JointDenoiser]:
    audio = WanAudioModel.from_pretrained(basic.checkpoint / "audio_dit")
    bridge = DualTowerConditionalBridge.from_pretrained(basic.checkpoint / "dual_tower_bridge")
    return [
        JointDenoiser(WanModel.from_pretrained(basic.checkpoint / name), audio, bridge).eval().requires_grad_(False)
        for name in ("video_dit", "video_dit_2")
    ]


@pytest.fixture(scope="module")
def inputs(basic: Golden) -> StepInputs:
    return StepInputs(
        basic["video_dit/x"], basic["audio_dit/x"], basic["video_dit/t"], basic["audio_dit/t"], basic.meta["frame_rate"]
    )


@pytest.fixture(scope="module")
def conditionings(basic: Golden) -> list[Conditioning]:
    """The prompt, something else with a bias, and the bridge off: all that guidance asks for."""
    text = basic["video_dit/context"]
    return [
        Conditioning(text),
        Conditioning(text.flip(1), torch.zeros(text.shape[:2])),
        Conditioning(text, bridge_scale=0.0),
    ]


def resident(denoiser: JointDenoiser, inputs: StepInputs, conditionings: list[Conditioning]) -> list[JointOutput]:
    """Separate forwards through the plain denoiser."""
    with torch.no_grad():
        return [
            denoiser(
                inputs.video_latents,
                inputs.audio_latents,
                inputs.video_timestep,
                inputs.audio_timestep,
                conditioning.text,
                inputs.frame_rate,
                text_bias=conditioning.text_bias,
                bridge_scale=conditioning.bridge_scale,
            )
            for conditioning in conditionings
        ]


def assert_same(ours: list[JointOutput], theirs: list[JointOutput]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.video, other.video)
        assert torch.equal(one.audio, other.audio)


@dataclass
class LateEvent:
    """How many operations of the copy queue came before it."""

    after: int = 0


class LateBackend(HostBackend):
    """The slowest device allowed: it copies only when the compute queue waits for it. Slots start as garbage."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Callable[[], None]] = deque()
        self.given = 0

    def event(self) -> LateEvent:
        return LateEvent()

    def allocate(self, nbytes: int) -> Tensor:
        return super().allocate(nbytes).fill_(0xFF)  # NaN in every floating-point format

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.waiting.append(lambda: super(LateBackend, self).copy(source, target))
        self.given += 1

    def record(self, event: LateEvent, queue: Queue) -> None:
        if queue is Queue.COPY:
            event.after = self.given

    def wait(self, event: LateEvent, queue: Queue) -> None:
        if queue is Queue.COMPUTE:
            self.finish(event)

    def finish(self, event: LateEvent) -> None:
        while self.given - len(self.waiting) < event.after:
            self.waiting.popleft()()


class FailingBackend(HostBackend):
    """Copies fail from number `first` on, until it is mended."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.left = first

    def copy(self, source: Tensor, target: Tensor) -> None:
        if self.left == 0:
            raise RuntimeError("the link is down")
        self.left -= 1
        super().copy(source, target)


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("kept", [0, 1, 3, 4])
@pytest.mark.parametrize("backend", [HostBackend, LateBackend])
def test_streamed_is_bit_identical_to_resident(
    experts: list[JointDenoiser],
    inputs: StepInputs,
    conditionings: list[Conditioning],
    slots: int,
    kept: int,
    backend: type[HostBackend],
) -> None:
    high, low = (resident(expert, inputs, conditionings) for expert in experts)
    streamer = LayerStreamer(experts, backend(), slots=slots, resident=kept)
    assert_same(streamer.forward_many(inputs, conditionings), high)
    assert_same(streamer.forward_many(inputs, conditionings, following=1), high)
    assert_same(streamer.forward_many(inputs, conditionings, expert=1), low)


@pytest.mark.parametrize("slots", [1, 2, 7])
@pytest.mark.parametrize("kept", [0, 1, 4])
def test_kept_text_changes_no_bit_whatever_is_asked_next(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning], slots: int, kept: int
) -> None:
    other = [Conditioning(conditionings[0].text + 1), conditionings[1]]
    streamer = LayerStreamer(experts, LateBackend(), slots=slots, resident=kept, keep_text=True)
    for asked, number, following in (
        (conditionings, 0, 0),  # keys and values are made
        (conditionings, 0, 0),  # and used
        (conditionings[:1], 0, 0),  # outside the guidance interval
        (other, 0, 1),  # a new prompt beside a known one
        (conditionings, 1, 1),
        (conditionings, 1, 0),
        (conditionings, 0, 0),  # back with the first expert
    ):
        expected = resident(experts[number], inputs, asked)
        assert_same(streamer.forward_many(inputs, asked, expert=number, following=following), expected)


def test_with_kept_text_later_steps_fetch_no_weights_of_the_text(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    backend = HostBackend()
    streamer = LayerStreamer(experts, backend, slots=2, keep_text=True)
    streamer.forward_many(inputs, conditionings)
    before = backend.bytes_copied
    for _ in range(3):
        streamer.forward_many(inputs, conditionings)
    (later, _), (whole, _) = streamer.streamed_bytes_with_kept_text, streamer.streamed_bytes
    assert backend.bytes_copied - before == 3 * later
    text = sum(p.numel() * p.element_size() for p in text_parameters(list(experts[0].modules())))
    padding = ALIGNMENT * len(text_parameters(list(experts[0].modules())))
    assert text <= whole - later < text + padding


def test_kept_text_is_forgotten_when_weights_change_or_the_prompt_is_gone(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    streamer = LayerStreamer(experts, HostBackend(), slots=2, keep_text=True)
    asked = [Conditioning(conditionings[0].text.clone())]
    before = streamer.forward_many(inputs, asked)
    with torch.no_grad():
        for parameter in text_parameters(list(experts[0].modules())):
            parameter.mul_(1.5)
    streamer.weights_changed()
    after = streamer.forward_many(inputs, asked)
    assert not torch.equal(before[0].video, after[0].video)
    assert_same(after, resident(experts[0], inputs, asked))
    kept = [weakref.ref(kv.keys) for texts in streamer._kept.values() for kv in texts.values()]
    assert kept
    del asked
    gc.collect()
    assert all(keys() is None for keys in kept)


def test_a_wrong_guess_of_what_follows_costs_copies_and_no_correctness(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    low = resident(experts[1], inputs, conditionings)
    streamer = LayerStreamer(experts, LateBackend(), slots=2)
    streamer.forward_many(inputs, conditionings, expert=0, following=0)
    assert_same(streamer.forward_many(inputs, conditionings, expert=1), low)


def test_each_layer_is_copied_once_per_step_whatever_guidance_evaluates(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    backend = HostBackend()
    streamer = LayerStreamer(experts, backend, slots=2)
    streamer.forward_many(inputs, conditionings[:1])
    before = backend.bytes_copied
    streamer.forward_many(inputs, conditionings)
    assert backend.bytes_copied - before == streamer.streamed_bytes[0]


def test_the_host_neither_waits_nor_allocates_between_steps(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    backend = HostBackend()
    streamer = LayerStreamer(experts, backend, slots=3)
    made = backend.allocations
    for _ in range(3):
        streamer.forward_many(inputs, conditionings)
    assert made == backend.allocations == 3
    assert backend.synchronizations == 0


def test_weights_changed_on_the_host_are_what_is_streamed_next(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    """A LoRA merged into the weights between two clips."""
    streamer = LayerStreamer(experts, HostBackend(), slots=1)
    before = streamer.forward_many(inputs, conditionings)
    weight = experts[0].video.blocks[0].self_attn.q.weight  # of a layer that was fetched ahead
    with torch.no_grad():
        weight += 0.5 * torch.outer(weight[:, 0], weight[0])
    streamer.weights_changed()
    after = streamer.forward_many(inputs, conditionings)
    assert not torch.equal(before[0].video, after[0].video)
    assert_same(after, resident(experts[0], inputs, conditionings))


def test_both_experts_share_one_copy_of_audio_tower_and_bridge_in_host_memory(experts: list[JointDenoiser]) -> None:
    LayerStreamer(experts, HostBackend())
    high, low = (set(expert.parameters()) for expert in experts)
    storages = {
        parameter.untyped_storage().data_ptr(): parameter.untyped_storage().nbytes() for parameter in high | low
    }
    needed = sum(-(-p.numel() * p.element_size() // ALIGNMENT) * ALIGNMENT for p in high | low)
    assert sum(storages.values()) <= needed


def test_parameters_lie_aligned_in_their_slab(experts: list[JointDenoiser]) -> None:
    LayerStreamer(experts, HostBackend())
    block = list(experts[0].video.blocks[0].parameters())
    assert len({parameter.untyped_storage().data_ptr() for parameter in block}) == 1
    assert all(parameter.data_ptr() % ALIGNMENT == 0 for parameter in block)


@pytest.mark.parametrize("first", [0, 1, 5, 9])
def test_a_copy_that_fails_says_which_and_the_next_call_starts_anew(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning], first: int
) -> None:
    expected = resident(experts[0], inputs, conditionings)
    backend = FailingBackend(first)
    streamer = LayerStreamer(experts[:1], backend, slots=2)
    with pytest.raises(PhonofilmError, match=r"copying layer \d of expert 0 \(.*\) to cpu failed: the link is down"):
        [streamer.forward_many(inputs, conditionings) for _ in range(3)]
    assert_same(resident(experts[0], inputs, conditionings), expected)  # the weights are back on the host
    backend.left = -1
    assert_same(streamer.forward_many(inputs, conditionings), expected)


def test_a_failure_inside_a_layer_leaves_the_streamer_usable(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    streamer = LayerStreamer(experts, LateBackend(), slots=2)
    with pytest.raises(RuntimeError):
        streamer.forward_many(inputs, [replace(conditionings[0], text_bias=torch.zeros(1, 3))])
    assert_same(streamer.forward_many(inputs, conditionings), resident(experts[0], inputs, conditionings))


def test_after_closing_the_denoiser_runs_as_before_and_the_streamer_refuses(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    expected = resident(experts[0], inputs, conditionings)
    streamer = LayerStreamer(experts, HostBackend(), resident=2)
    streamer.close()
    assert_same(resident(experts[0], inputs, conditionings), expected)
    with pytest.raises(InputError, match="closed"):
        streamer.forward_many(inputs, conditionings)


class FullBackend(HostBackend):
    """Has no room for slots."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned = 0

    def pin(self, host: Tensor) -> None:
        self.pinned += 1

    def unpin(self, host: Tensor) -> None:
        self.pinned -= 1

    def allocate(self, nbytes: int) -> Tensor:
        raise torch.OutOfMemoryError("no room")


def test_a_device_without_room_is_given_back_what_was_taken(
    experts: list[JointDenoiser], inputs: StepInputs, conditionings: list[Conditioning]
) -> None:
    expected = resident(experts[0], inputs, conditionings)
    backend = FullBackend()
    with pytest.raises(torch.OutOfMemoryError):
        LayerStreamer(experts, backend)
    assert backend.pinned == 0
    assert_same(resident(experts[0], inputs, conditionings), expected)


def test_an_expert_that_does_not_exist_is_refused(experts: list[JointDenoiser], inputs: StepInputs) -> None:
    with pytest.raises(InputError, match="expert 1 does not exist"):
        LayerStreamer(experts[:1], HostBackend()).forward_many(inputs, [], expert=1)
    with pytest.raises(InputError, match="expert 2 does not exist"):
        LayerStreamer(experts, HostBackend()).forward_many(inputs, [], following=2)


def test_weights_that_are_not_in_host_memory_are_refused(experts: list[JointDenoiser]) -> None:
    with pytest.raises(InputError, match="on meta cannot be streamed"):
        LayerStreamer([experts[0].to("meta")], HostBackend())


def test_no_slot_or_more_resident_layers_than_there_are_is_refused(experts: list[JointDenoiser]) -> None:
    with pytest.raises(InputError, match="ring of 0 slots"):
        LayerStreamer(experts, HostBackend(), slots=0)
    with pytest.raises(InputError, match="5 resident layers were asked of a tower with 4"):
        LayerStreamer(experts, HostBackend(), resident=5)


def test_resident_layers_are_spread_evenly() -> None:
    assert sorted(spread(4, 40)) == [5, 15, 25, 35]
    assert spread(0, 40) == frozenset()
    for count in range(41):
        chosen = sorted(spread(count, 40))
        assert len(chosen) == count
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert not gaps or max(gaps) - min(gaps) <= 1
