"""Several ranks give one rank's numbers, whatever the mesh and the token count; a rank that goes takes the others along."""

from __future__ import annotations

import pytest
import torch
from tests.unit import parallel_work as work
from torch.nn.attention import SDPBackend, sdpa_kernel

from phonofilm.errors import InputError
from phonofilm.models.layers import attention
from phonofilm.parallel.degrees import Degrees, choose_degrees
from phonofilm.parallel.launcher import launch
from phonofilm.parallel.lse_merge import merge_partials, partial_attention, partial_attention_gradients
from phonofilm.parallel.rank import Rank, RankError, device_of, launcher_rank
from phonofilm.parallel.shard_ranges import ShardRanges


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_give_the_numbers_of_one_rank_for_every_mesh_and_token_count(world: int) -> None:
    compared = launch(world, work.compare_everything)
    assert len(compared) > 10
    assert [one for one in compared if one.error > 1e-5] == []
    assert [one for one in compared if not one.same_on_all_ranks] == []


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_gradients_of_ranks_that_share_a_clip_are_those_of_one_rank(world: int) -> None:
    compared = launch(world, work.compare_gradients)
    assert len(compared) >= 6 * len(work.all_meshes(world))
    assert [one for one in compared if one.error > 1e-5] == []


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_decode_together_what_one_decodes_alone(world: int) -> None:
    compared = launch(world, work.compare_decoding)
    assert len(compared) == 6
    assert [one for one in compared if one.error > 1e-5] == []
    assert [one for one in compared if not one.same_on_all_ranks] == []


def test_a_rank_decodes_its_rows_and_one_of_its_neighbour() -> None:
    assert launch(2, work.rows_seen) == [1 + 5 * 8 + 1] * 2


def test_meshes_compared_have_ring_ulysses_both_and_cfg() -> None:
    assert set(work.all_meshes(4)) == {
        Degrees(1, 4, 1),
        Degrees(1, 2, 2),
        Degrees(1, 1, 4),
        Degrees(2, 2, 1),
        Degrees(2, 1, 2),
    }


def test_a_rank_that_is_killed_ends_the_others_and_is_named() -> None:
    with pytest.raises(RankError, match=r"rank 1 was ended by signal 9 \(SIGKILL\); the machine may be out of memory"):
        launch(2, work.one_is_killed)


def test_a_rank_that_hangs_is_not_waited_for_longer_than_exchanges_have_patience() -> None:
    with pytest.raises(RankError, match=r"(?s)rank 0 failed:.*[Tt]imed out"):
        launch(2, work.one_hangs)


def test_an_interrupt_asks_orderly_ranks_to_stop_and_waits_for_them() -> None:
    assert launch(2, work.stops_in_good_order, orderly=True) == 7


def test_orderly_ranks_that_cannot_stop_yet_are_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(2, work.dies_of_an_interrupt, orderly=True)


def test_an_error_of_one_rank_is_raised_as_it_is() -> None:
    with pytest.raises(InputError, match="this clip is not for me"):
        launch(2, work.one_refuses)


def test_ranks_take_the_first_ones_seed() -> None:
    assert launch(2, work.first_numbers) == (100, 2)


@pytest.mark.parametrize("parts", [(7,), (1, 6), (3, 1, 3), (1,) * 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_partial_attentions_merge_to_the_whole(parts: tuple[int, ...], dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, n, 24, generator=draw).to(dtype) for n in (5, 7, 7))
    split = zip(k.split(parts, 1), v.split(parts, 1), strict=True)
    merged = merge_partials(partial_attention(q, *both, heads=3) for both in split).flat(dtype)
    whole = attention(q, k, v, 3)
    assert merged.dtype == dtype
    assert float((merged - whole).abs().max()) < (1e-6 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("backends", [(SDPBackend.FLASH_ATTENTION,), (SDPBackend.MATH,)])
def test_gradients_of_partial_attentions_add_up_to_the_wholes(backends: tuple[SDPBackend, ...]) -> None:
    draw = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, n, 24, generator=draw).requires_grad_() for n in (5, 7, 7))
    out = attention(q, k, v, 3)
    gradient = torch.randn(out.shape, generator=draw)
    expected = torch.autograd.grad(out, (q, k, v), gradient)
    q, k, v, out = (t.detach() for t in (q, k, v, out))
    with sdpa_kernel(list(backends)):
        weight = merge_partials(
            partial_attention(q, *both, heads=3) for both in zip(k.split(3, 1), v.split(3, 1), strict=True)
        ).weight
        parts = [
            partial_attention_gradients(gradient, q, *both, out, weight, 3)
            for both in zip(k.split(3, 1), v.split(3, 1), strict=True)
        ]
    to_q, to_k, to_v = sum(part[0] for part in parts), *(torch.cat([part[i] for part in parts], 1) for i in (1, 2))
    for ours, theirs in zip((to_q, to_k, to_v), expected, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-6


@pytest.mark.parametrize(
    "kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
)
def test_the_kernels_of_gpus_take_what_they_are_given(kernel: SDPBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes, dtypes and arguments only: nothing computes on the meta device."""
    monkeypatch.setattr(torch, "_fused_sdp_choice", lambda *_: int(kernel.value))
    q, k = (torch.empty(1, count, 256, device="meta", dtype=torch.bfloat16) for count in (50, 70))
    part = partial_attention(q, k, k, heads=2)
    assert (part.out.shape, part.weight.shape) == ((1, 50, 2, 128), (1, 50, 2))
    gradients = partial_attention_gradients(q, q, k, k, part.flat(q.dtype), part.weight, 2)
    assert [(one.shape, one.dtype) for one in gradients] == [(t.shape, t.dtype) for t in (q, k, k)]


@pytest.mark.parametrize(("total", "parts"), [(1, 1), (7, 2), (8, 4), (43_120, 7), (13, 13)])
def test_shards_are_consecutive_and_differ_by_one_at_most(total: int, parts: int) -> None:
    shards = ShardRanges(total, parts)
    assert [i for part in range(parts) for i in range(total)[shards.piece(part)]] == list(range(total))
    sizes = [shards.size(part) for part in range(parts)]
    assert max(sizes) - min(sizes) <= 1
    assert shards.longest == max(sizes)


def test_fewer_tokens_than_ranks_are_refused() -> None:
    with pytest.raises(InputError, match="3 video tokens cannot be shared by 4 devices"):
        ShardRanges(3, 4)


@pytest.mark.parametrize(
    ("world", "heads", "options", "chosen"),
    [
        (8, 40, {}, Degrees(1, 1, 8)),
        (8, 40, {"cfg_parallel": True}, Degrees(2, 1, 4)),
        (8, 40, {"ring": 2}, Degrees(1, 2, 4)),
        (8, 40, {"ulysses": 2}, Degrees(1, 4, 2)),
        (6, 40, {}, Degrees(1, 3, 2)),
        (3, 40, {}, Degrees(1, 3, 1)),
        (8, 4, {"cfg_parallel": True, "ring": 2, "ulysses": 2}, Degrees(2, 2, 2)),
    ],
)
def test_the_mesh_is_chosen_ulysses_first(world: int, heads: int, options: dict, chosen: Degrees) -> None:
    assert choose_degrees(world, heads, **options) == chosen


@pytest.mark.parametrize(
    ("world", "options", "message"),
    [
        (3, {"ulysses": 3}, "40 heads cannot be divided evenly over ulysses degree 3; use ulysses 1 with ring 3"),
        (8, {"ulysses": 3}, "makes 6 devices, and there are 8; use ulysses 8 with ring 1 or ulysses 4 with ring 2"),
        (8, {"ring": 16}, "ulysses degree 1 x ring degree 16 makes 16 devices, and there are 8"),
        (3, {"cfg_parallel": True}, "3 devices have none; use an even number"),
        (0, {}, "number of devices 0 is less than 1"),
        (2, {"ring": -1}, "ring degree -1 is less than 1"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused_with_what_can(world: int, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_degrees(world, 40, **options)


def test_torchruns_variables_make_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launcher_rank() is None
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert launcher_rank() == Rank(3, 4, 1, "env://")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_more_ranks_than_gpus_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="99 devices were asked for, and PyTorch sees"):
        device_of(Rank(98, 99, 98, ""), name)


def test_one_named_gpu_is_not_for_several_ranks() -> None:
    with pytest.raises(InputError, match="device cuda:0 is one device, and 2 ranks need one each"):
        device_of(Rank(0, 2, 0, ""), "cuda:0")
