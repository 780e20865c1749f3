"""Two processes share a step on one device, and NCCL adds up where each has a card."""

from __future__ import annotations

import pytest
import torch

from phonofilm.parallel.launcher import launch
from tests.gpu.rank_work import reduce_alone, share_a_step


@pytest.mark.parametrize("degrees", [{"ulysses": 2}, pytest.param({"cfg": 2}, marks=pytest.mark.gpu)])
def test_two_ranks_on_one_device_answer_what_one_answers(device: torch.device, degrees: dict[str, int]) -> None:
    assert launch(2, share_a_step, str(device), degrees) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("world", [1, 2])
def test_nccl_adds_up_over_the_cards(world: int) -> None:
    if torch.cuda.device_count() < world:
        pytest.skip(f"NCCL needs a card for each of {world} processes, and there are {torch.cuda.device_count()}")
    assert launch(world, reduce_alone) == 3 * world
