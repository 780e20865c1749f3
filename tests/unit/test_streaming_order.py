"""The ring against the clock: never a use before ready, never more live than slots, and no time lost; bytes at 14B shapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.released import released_denoiser
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.quantized import empty_quantized
from phonofilm.runtime.layer_groups import slab_parameters, text_parameters
from phonofilm.runtime.schedule_sim import Trace, simulate
from phonofilm.runtime.slabs import SlabLayout

SECONDS = st.floats(0.001, 1.0)
LAYERS = st.lists(st.tuples(SECONDS, SECONDS, st.booleans()), min_size=1, max_size=12)


def longest_chain(compute: list[float], copy: list[float | None], slots: int, forwards: int) -> float:
    """When the last layer can be done at best, if layers run in order and a slot holds one at a time.

    A copy starts after the one before it and after the computation that used its slot last; a computation after the one
    before it and after its own copy.
    """
    copied: list[float] = []
    freed: list[float] = []
    done = 0.0
    for _ in range(forwards):
        for cost, fetch in zip(compute, copy, strict=True):
            if fetch is not None:
                slot_free = freed[len(copied) - slots] if len(copied) >= slots else 0.0
                copied.append(max(copied[-1] if copied else 0.0, slot_free) + fetch)
                done = max(done, copied[-1])
            done += cost
            if fetch is not None:
                freed.append(done)
    return done


def assert_safe(trace: Trace, slots: int) -> None:
    last_use: dict[int, float] = {}
    for one in trace.passes:
        assert one.computed[0] >= one.copied[1], "used before it was ready"
        assert one.copied[0] >= last_use.get(one.slot, 0.0), "overwritten while in use"
        last_use[one.slot] = one.computed[1]
    for one in trace.passes:
        moment = one.copied[0]
        live = sum(other.copied[0] <= moment < other.computed[1] for other in trace.passes)
        assert live <= slots


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LAYERS, st.integers(1, 4), st.integers(1, 3))
def test_the_ring_is_safe_and_as_fast_as_possible(
    layers: list[tuple[float, float, bool]], slots: int, forwards: int
) -> None:
    compute = [cost for cost, _, _ in layers]
    copy = [None if kept else fetch for _, fetch, kept in layers]
    trace = simulate(compute, copy, slots, forwards)
    assert_safe(trace, slots)
    assert len(trace.passes) == forwards * sum(fetch is not None for fetch in copy)
    assert trace.makespan <= 1.01 * longest_chain(compute, copy, slots, forwards)


def test_two_slots_hide_copies_that_are_shorter_than_the_computation() -> None:
    """Figures of a 14B model at 360p on an H100: 109 ms for both evaluations of a layer, 39 ms to copy it."""
    one_step = simulate([0.109] * 40, [0.039] * 40, slots=2)
    assert one_step.makespan <= 1.01 * 40 * 0.109
    fifty = simulate([0.109] * 40, [0.039] * 40, slots=2, forwards=50)
    assert fifty.makespan == pytest.approx(50 * 40 * 0.109 + 0.039)


def test_one_slot_is_serial() -> None:
    assert simulate([0.109] * 40, [0.039] * 40, slots=1).makespan == pytest.approx(40 * (0.109 + 0.039))


def test_a_slow_link_bounds_the_step_and_resident_layers_relieve_it() -> None:
    copies = [0.039] * 40
    assert simulate([0.01] * 40, copies, slots=2).makespan == pytest.approx(sum(copies) + 0.01)
    half = simulate([0.01] * 40, [None, 0.039] * 20, slots=2)
    assert half.makespan == pytest.approx(20 * 0.039 + 0.01)


@pytest.fixture(scope="module")
def layouts() -> list[list[SlabLayout]]:
    """Every layer's slabs at the true 14B shapes: the expert's block, then what both experts share."""
    denoiser = released_denoiser()
    return [slab_layouts(denoiser, index) for index in range(denoiser.num_layers)]


def slab_layouts(denoiser: JointDenoiser, index: int) -> list[SlabLayout]:
    own, *shared = denoiser.layer_modules(index)
    groups = [[own], shared] if shared else [[own]]
    return [SlabLayout.of(slab_parameters(tuple(group))) for group in groups]


def test_bytes_streamed_per_guided_step_at_true_shapes(layouts: list[list[SlabLayout]]) -> None:
    per_layer = [sum(slab.nbytes for slab in slabs) for slabs in layouts]
    assert sum(per_layer) <= 36.7e9
    assert [round(size / 1e6) for size in (per_layer[0], per_layer[-1])] == [973, 703]


def test_bytes_streamed_with_the_text_kept_at_true_shapes(layouts: list[list[SlabLayout]]) -> None:
    denoiser = released_denoiser()
    whole = sum(slab.nbytes for slabs in layouts for slab in slabs)
    text = sum(p.numel() * p.element_size() for p in text_parameters(denoiser.modules()))
    assert 31e9 < whole - text <= 32.3e9


def test_bytes_streamed_in_fp8_with_the_text_kept_at_true_shapes() -> None:
    denoiser = released_denoiser()
    for network in (denoiser.video, denoiser.audio, denoiser.bridge):
        empty_quantized(network, "fp8")
    layers = [module for index in range(denoiser.num_layers) for module in denoiser.layer_modules(index)]
    text = {id(p) for p in text_parameters(denoiser.modules())}
    streamed = SlabLayout.of(p for module in layers for p in module.parameters() if id(p) not in text)
    assert 15e9 < streamed.nbytes <= 16.2e9


def test_pinned_bytes_are_the_weights_and_one_percent(layouts: list[list[SlabLayout]]) -> None:
    pinned = sum(slab.pinned_bytes for slabs in layouts for slab in slabs)
    weights = sum(piece.nbytes for slabs in layouts for slab in slabs for piece in slab.pieces)
    assert weights <= pinned <= 1.01 * weights
