"""The benchmark runs everyone on the same work, says when it is not the same, and survives one that cannot run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from phonofilm.bench import bed as beds
from phonofilm.bench.bed import Bed, Limits, Size, make_bed, size_named
from phonofilm.bench.contestants import CONTESTANTS, Contestant, Running, resident
from phonofilm.bench.race import race
from phonofilm.bench.report import record, table, write
from phonofilm.errors import InputError
from phonofilm.models.joint import JointOutput

SMALL = Size("small", "for this test", (2, 2, 2), 9, released=False)


@pytest.fixture(scope="module")
def bed() -> Bed:
    return make_bed(SMALL, torch.device("cpu"), torch.float32)


def silent(name: str, done: int, rounds: int) -> None: ...


@contextmanager
def louder(bed: Bed) -> Iterator[Running]:
    with resident(bed) as running:

        def step() -> list[JointOutput]:
            return [JointOutput(2 * out.video, out.audio) for out in running.step()]

        yield Running(step)


@contextmanager
def too_large(bed: Bed) -> Iterator[Running]:
    raise RuntimeError("out of memory")
    yield


def test_streaming_and_the_peer_make_the_same_velocities_as_resident(bed: Bed, tmp_path: Path) -> None:
    limits, results = race(bed, CONTESTANTS, rounds=1, steps=1, progress=silent)
    assert [result.error for result in results] == [None] * len(CONTESTANTS)
    assert [result.difference for result in results] == [0.0] * len(CONTESTANTS)
    told = {result.name: result for result in results}
    layers = sum(p.numel() * 4 for block in bed.denoiser.video.blocks for p in block.parameters())
    assert layers < told["streamed"].streamed_bytes < bed.weight_bytes
    assert told["diffusers leaf"].streamed_bytes == 2 * bed.weight_bytes
    path, picture = write(record(bed, limits, results, "phonofilm bench"), tmp_path)
    assert json.loads(path.read_text())["results"][1]["name"] == "streamed"
    assert picture.stat().st_size > 1000


def test_other_velocities_and_failures_are_shown_not_hidden(bed: Bed) -> None:
    field = [
        Contestant("resident", "", True, resident),
        Contestant("louder", "", False, louder),
        Contestant("large", "", False, too_large),
    ]
    _, results = race(bed, field, rounds=2, steps=1, progress=silent)
    assert results[1].difference == pytest.approx(1.0, abs=0.5)
    assert results[2].error == "out of memory"
    rows = table(results)
    assert rows[1][0] == "louder (peer)"
    assert rows[1][-1].startswith("within")
    assert rows[2][1] == "did not run: out of memory"


def test_the_limit_is_the_slower_of_products_and_copies() -> None:
    assert Limits(flops=100.0, link=10.0).seconds(flops=200, streamed_bytes=10) == 2.0
    assert Limits(flops=100.0, link=10.0).seconds(flops=200, streamed_bytes=50) == 5.0
    assert Limits(flops=100.0, link=None).seconds(flops=200, streamed_bytes=50) == 2.0


def test_the_released_step_is_as_many_flops_as_speed_md_says() -> None:
    size = beds.SIZES["360p"]
    bed = Bed(size, torch.device("meta"), beds.released_denoiser(), None, ())  # type: ignore[arg-type]
    assert bed.flops == pytest.approx(5.53e15, rel=1e-3)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(InputError, match="tiny, 360p"):
        size_named("huge")
