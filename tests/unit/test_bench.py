"""The benchmark runs everyone on the same work, says when it is not the same, and survives one that cannot run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.conftest import relative_error

from benchmarks.contestants import Contestant, Ours, Running, chosen
from benchmarks.limits import Limits
from benchmarks.race import Result, race
from benchmarks.report import clips, record, table, write
from benchmarks.rows import Rows, read_rows
from benchmarks.sizes import SIZES, Size, size_named, small_denoiser
from benchmarks.workload import Workload, make_workload
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.kernels import check
from phonofilm.kernels.choice import FusibleModule
from phonofilm.models.joint import JointOutput
from phonofilm.runtime.released import released_denoiser

SMALL = Size("small", "for this test", (2, 2, 2), 9, partial(small_denoiser, layers=2, head_width=12))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def workload() -> Workload:
    return make_workload(SMALL, CPU, torch.float32)


def silent(name: str, done: int, rounds: int) -> None: ...


@contextmanager
def louder(workload: Workload) -> Iterator[Running]:
    with Ours()(workload) as running:

        def step(inputs: Workload) -> list[JointOutput]:
            return [JointOutput(2 * out.video, out.audio) for out in running.step(inputs)]

        yield Running(step)


@contextmanager
def too_large(workload: Workload) -> Iterator[Running]:
    raise RuntimeError("out of memory")
    yield


def test_everyone_runs_on_the_same_weights_and_leaves_them_as_they_were(workload: Workload, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in workload.denoiser.state_dict().items()}
    field = chosen((), CPU)
    limits, results = race(workload, field, rounds=1, steps=1, progress=silent)
    told = {result.name: result for result in results}
    assert [result.error for result in results] == [None] * len(field)
    assert [name for name, result in told.items() if result.difference] == ["resident fp8", "streamed fp8"]
    assert told["resident fp8"].difference == told["streamed fp8"].difference
    layers = sum(p.numel() * 4 for block in workload.denoiser.video.blocks for p in block.parameters())
    assert layers < told["streamed"].streamed_bytes < workload.weight_bytes
    assert told["streamed fp8"].streamed_bytes < 0.4 * told["streamed"].streamed_bytes
    assert told["diffusers leaf"].streamed_bytes == 2 * workload.weight_bytes
    for name, tensor in workload.denoiser.state_dict().items():
        assert torch.equal(tensor, before[name])
    path, picture = write(record(workload, limits, results, "phonofilm bench"), tmp_path)
    assert [one["name"] for one in json.loads(path.read_text())["results"]] == list(told)
    assert picture.stat().st_size > 1000


def test_compiled_layers_and_fused_kernels_are_raced_on_a_gpu_or_when_named() -> None:
    slow_here = {"resident fused", "resident compiled", "streamed fused", "streamed fp8 fused"}
    assert not slow_here & {one.name for one in chosen((), CPU)}
    assert slow_here < {one.name for one in chosen((), torch.device("cuda"))}
    assert [one.name for one in chosen(("resident compiled",), CPU)] == ["resident compiled"]
    with pytest.raises(InputError, match="contestant fast is unknown; use resident, resident fused"):
        chosen(("fast",), CPU)


def test_fused_kernels_run_inside_the_step_and_not_after_it(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="the package triton is not installed: pip install phonofilm[kernels]")
    monkeypatch.setattr(check, "complaint", lambda device: None)
    with torch.no_grad():
        with Ours()(workload) as running:
            eager = running.step(workload)[0].video
        with Ours(fused=True)(workload) as running:
            ours = running.step(workload)[0].video
    assert not torch.equal(ours, eager)
    assert relative_error(ours, eager) < 1e-5
    assert {m.kernels for m in workload.denoiser.modules() if isinstance(m, FusibleModule)} == {"eager"}


def test_other_velocities_and_failures_are_shown_not_hidden(workload: Workload) -> None:
    field = [
        Contestant("resident", "", True, Ours()),
        Contestant("louder", "", False, louder),
        Contestant("large", "", False, too_large),
    ]
    _, results = race(workload, field, rounds=2, steps=1, progress=silent)
    assert results[1].difference == pytest.approx(1.0, abs=0.5)
    assert results[2].error == "out of memory"
    rows = table(results)
    assert rows[1][0] == "louder (peer)"
    assert rows[1][-1].startswith("within")
    assert rows[2][1] == "did not run: out of memory"


def test_every_turn_is_on_the_disk_before_the_next_begins_and_a_refused_pin_is_a_row(
    workload: Workload, tmp_path: Path
) -> None:
    rows, seen = Rows(tmp_path / "rows.jsonl"), []

    @contextmanager
    def refused(workload: Workload) -> Iterator[Running]:
        seen.extend(row["row"] for row in read_rows(rows.path))
        raise PhonofilmError("the CUDA driver refused to pin 973 MB of host memory (error 2)")
        yield

    field = [Contestant("resident", "", True, Ours()), Contestant("streamed", "", True, refused)]
    race(workload, field, rounds=1, steps=1, progress=silent, rows=rows)
    assert seen == ["limits", "turn"]
    written = read_rows(rows.path)
    assert [row["row"] for row in written] == ["limits", "turn", "turn", "result", "result"]
    assert written[2]["error"] == written[4]["error"]
    assert "refused to pin" in written[4]["error"]


def test_a_row_that_was_cut_off_hides_none_of_those_before_it(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.jsonl")
    rows.add({"seconds": 1.23456789, "error": float("nan"), "of": [CPU]})
    with rows.path.open("a") as stream:
        stream.write('{"seconds": 2.')
    assert read_rows(rows.path) == [{"seconds": 1.23457, "error": "nan", "of": ["cpu"]}]


def test_weights_are_the_same_wherever_they_are_made_and_nowhere_zero() -> None:
    one, other = make_workload(SMALL, CPU, torch.float32), make_workload(SMALL, CPU, torch.float32, weights_on=CPU)
    for ours, theirs in zip(one.denoiser.parameters(), other.denoiser.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.count_nonzero() == ours.numel()


def test_the_limit_is_the_slower_of_products_and_copies() -> None:
    assert Limits(flops=100.0, link=10.0).seconds(flops=200, streamed_bytes=10) == 2.0
    assert Limits(flops=100.0, link=10.0).seconds(flops=200, streamed_bytes=50) == 5.0
    assert Limits(flops=100.0, link=None).seconds(flops=200, streamed_bytes=50) == 2.0
    assert Limits(flops=100.0, link=None).seconds(flops=200, fp8_flops=100) == 2.0
    assert Limits(flops=100.0, link=None, fp8_flops=200.0).seconds(flops=200, fp8_flops=100) == 1.5


def test_clips_are_computed_from_the_fastest_of_ours() -> None:
    raced = [Result("slow", "", True, 3.0), Result("fast", "", True, 2.0), Result("peer", "", False, 1.0)]
    told = clips(raced)
    assert told["by"] == "fast"
    assert told["seconds"]["50 steps"] == 100
    assert told["seconds"]["25 steps of a second-order --solver"] == 50
    assert clips([Result("large", "", True, error="out of memory")]) == {}


def test_the_released_step_is_as_many_flops_as_speed_md_says() -> None:
    workload = Workload(SIZES["360p"], torch.device("meta"), released_denoiser(), None, ())  # type: ignore[arg-type]
    assert workload.flops == pytest.approx(5.53e15, rel=1e-3)
    assert workload.linear_flops == pytest.approx(2 * 1.211e15, rel=2e-3)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(InputError, match="tiny, 360p"):
        size_named("huge")
