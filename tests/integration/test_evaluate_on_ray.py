"""`phonofilm evaluate --ray`: clips are measured by tasks of a cluster, and the report is the one that this machine makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation_clips import ball

from phonofilm.errors import InputError
from phonofilm.evaluation.evaluate import evaluate, make_setup, plan_evaluation, write_report
from phonofilm.evaluation.measuring import MeasuringPlan
from phonofilm.media import save_clip
from phonofilm.serving.cluster.clips_on_ray import sharing_of

METRICS = ("amplitude", "container", "nano_sync")


@pytest.fixture
def plan(tmp_path: Path) -> MeasuringPlan:
    for seed in range(3):
        save_clip(ball(seed, num_frames=25, size=32), tmp_path / "clips" / f"{seed}.mp4")
    whole = (tmp_path / "clips" / "2.mp4").read_bytes()
    (tmp_path / "clips" / "damaged.mp4").write_bytes(whole[: len(whole) // 4])
    setup = make_setup("compat", None, "cpu", "", None)
    return plan_evaluation([tmp_path / "clips"], tmp_path / "report", METRICS, setup, jobs=2, ray="local")


def test_the_plan_says_where_clips_are_measured(plan: MeasuringPlan) -> None:
    assert plan.summary.endswith("on Ray (local)")
    assert replace(plan, ray=None).summary.endswith("2 at a time")


@pytest.mark.slow
def test_a_cluster_and_this_machine_make_the_same_report(plan: MeasuringPlan, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with sharing_of("local") as on_ray:
        shared = _rows(plan, on_ray, tmp_path / "shared")
        with pytest.raises(InputError, match="Ray chooses each clip's GPU"):
            list(on_ray(replace(plan, setup=replace(plan.setup, device="cuda:1"))))
    with sharing_of(None) as here:
        alone = _rows(replace(plan, rows=tmp_path / "rows", jobs=1), here, tmp_path / "alone")
    assert shared == alone
    assert {row["state"] for row in shared["damaged"].values()} == {"failed"}
    assert shared["0"]["amplitude"]["state"] == "ok"
    assert len(list((plan.rows / "amplitude").iterdir())) == 3  # kept, for a run that goes on


def _rows(plan: MeasuringPlan, sharing: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of the report, without how long they took."""
    folder.mkdir()
    write_report(evaluate(plan, sharing=sharing), folder)
    clips = json.loads((folder / "result.json").read_text(encoding="utf-8"))["clips"]
    return {
        clip["id"]: {
            name: {key: value for key, value in row.items() if key != "seconds"} for name, row in clip["rows"].items()
        }
        for clip in clips
    }
