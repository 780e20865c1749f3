"""What a prompt file, a folder, a file of weights or a server may hold and must not do: paths, loops, other weights, nonsense."""

from __future__ import annotations

import json
import multiprocessing
import os
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluation_clips import ball, noise, shown
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.data.endpoint import EndpointError
from phonofilm.errors import MediaError
from phonofilm.evaluation import evaluate as evaluation
from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.measuring import ClipMeasurer
from phonofilm.evaluation.metric import Figure, Metric, Setup
from phonofilm.evaluation.remote_transcripts import tagged_text
from phonofilm.evaluation.requirements import Requirements, WeightFile
from phonofilm.evaluation.result import REPORT_FILE, RESULT_FILE
from phonofilm.evaluation.rows import Row, measured
from phonofilm.media import Clip, save_clip

PUBLISHED = b"the published weights"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    return shown(folder / "a.mp4", ball(7, num_frames=25, size=32).frames, noise(1))


@pytest.mark.parametrize(
    "prompts", [{"a": {"../../out": 0}}, {"a": {"/out": 0}}, {"../out": {"a": 0}}, {"a": {".a": 0}}]
)
def test_no_clip_is_made_outside_the_report(prompts: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(
        json.dumps({category: {name: {"prompt": "A lamp."} for name in those} for category, those in prompts.items()})
    )
    call = [
        "evaluate",
        "--generate",
        "--prompts",
        str(file),
        "--metrics",
        "amplitude",
        "-o",
        str(tmp_path / "deep" / "report"),
    ]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 2
    assert "is no name for a file" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["prompts.json"]


class Weighed(Metric):
    name, title, source = "weighed", "Weighed", "a test"
    figures = (Figure("level", "Level"),)

    @property
    def needs(self) -> Requirements:
        return Requirements(weights=(WeightFile("net.pt", len(PUBLISHED), self.digest, "CC0", "a page"),))

    digest = sha256(PUBLISHED).hexdigest()

    def measure(self, clip: ClipFacts) -> Row:
        assert self.setup.weights is not None
        return measured({"level": float((self.setup.weights / "net.pt").read_bytes()[0])})


def test_other_weights_are_refused_and_rows_of_other_weights_measured_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phonofilm.evaluation.measuring.build", lambda names, setup: (Weighed(setup),))
    entry = evaluation.list_clips([clip])[0]

    def row(weights: bytes) -> Row:
        (tmp_path / "net.pt").write_bytes(weights)
        os.utime(tmp_path / "net.pt", ns=(0, weights[0]))
        return ClipMeasurer(("weighed",), Setup(weights=tmp_path), tmp_path / "rows").measure(entry)["weighed"]

    assert row(PUBLISHED).values == {"level": float(PUBLISHED[0])}
    other = row(PUBLISHED[::-1])
    assert (other.state, "the file there has sha256" in other.reason) == ("unavailable", True)
    monkeypatch.setattr(Weighed, "digest", "")  # files whose hash is published nowhere
    assert row(PUBLISHED).values == {"level": float(PUBLISHED[0])}
    assert row(PUBLISHED[::-1]).values == {"level": float(PUBLISHED[-1])}


def test_a_link_to_itself_is_a_failed_row(clip: Path, tmp_path: Path) -> None:
    (clip.parent / "loop.mp4").symlink_to("loop.mp4")
    call = ["evaluate", str(clip.parent), "--metrics", "amplitude", "--jobs", "1", "-o", str(tmp_path / "report")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    rows = {
        one["id"]: one["rows"]["amplitude"]
        for one in json.loads((tmp_path / "report" / RESULT_FILE).read_text())["clips"]
    }
    assert (rows["a"]["state"], rows["loop"]["state"]) == ("ok", "failed")


def test_links_that_lead_nowhere_are_failed_rows_and_no_place_for_a_report(clip: Path, tmp_path: Path) -> None:
    (clip.parent / "gone.mp4").symlink_to("nowhere.mp4")
    call = ["evaluate", str(clip.parent), "--metrics", "amplitude", "--jobs", "1", "-o"]
    assert CliRunner().invoke(app, [*call, str(tmp_path / "report")]).exit_code == 0
    states = json.loads((tmp_path / "report" / RESULT_FILE).read_text())["metrics"]["amplitude"]["state_counts"]
    assert (states["ok"], states["failed"]) == (1, 1)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for place, what in (("link", "a link that leads nowhere"), ("file/report", "a file")):
        refused = CliRunner().invoke(app, [*call, str(tmp_path / place)])
        assert (refused.exit_code, f"is {what}; name a folder" in refused.stderr) == (2, True)


def test_strikes_at_few_frames_per_second_have_no_lag(tmp_path: Path) -> None:
    still = ball(4, num_frames=60)
    path = tmp_path / "slow.mp4"
    save_clip(Clip(still.frames, 15, np.tile(still.audio, 2)[:, : 4 * 16_000], 16_000), path)
    (metric,) = build(("onset_lag",), Setup())
    row = metric.measure(ClipFacts(path, "slow"))
    assert (row.state, row.reason) == (
        "not_applicable",
        "15 frames per second do not show when something strikes; 20 are needed",
    )


def _hold(report: Path, begun: Any, end: Any) -> None:
    with evaluation.sole_writer(report):
        begun.set()
        end.wait()


def test_a_second_run_into_one_report_is_refused(clip: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begun, end = context.Event(), context.Event()
    other = context.Process(target=partial(_hold, tmp_path / "report", begun, end))
    other.start()
    begun.wait()
    call = ["evaluate", str(clip), "--metrics", "amplitude", "--jobs", "1", "-o", str(tmp_path / "report")]
    refused = CliRunner().invoke(app, call)
    assert (refused.exit_code, "is measuring for the report" in refused.stderr) == (2, True)
    end.set()
    other.join()
    assert CliRunner().invoke(app, call).exit_code == 0


def test_a_page_that_cannot_be_written_leaves_the_result_as_it_was(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluation.evaluate(evaluation.plan_evaluation([clip], tmp_path / "report", ("amplitude",), Setup(), jobs=1))
    evaluation.write_report(run, tmp_path / "report")
    before = [(tmp_path / "report" / name).read_bytes() for name in (RESULT_FILE, REPORT_FILE)]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phonofilm.evaluation.report_page.write_page_of", full)
    with pytest.raises(MediaError, match="No space left on device; nothing was kept"):
        evaluation.write_report(run, tmp_path / "report")
    assert [(tmp_path / "report" / name).read_bytes() for name in (RESULT_FILE, REPORT_FILE)] == before


@pytest.mark.parametrize("segment", [{"speaker": {"a": 1}}, {"speaker": "A", "text": 3}, "words", None])
def test_segments_that_are_none_are_no_transcription(segment: object) -> None:
    with pytest.raises(EndpointError, match="a speaker and a text"):
        tagged_text({"text": "x", "segments": [{"speaker": "A", "text": "Hello."}, segment]})
