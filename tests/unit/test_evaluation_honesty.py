"""How many clips a figure is of, when a run counts as failed, and what a reader of a report sees without opening anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.evaluation_clips import ball, noise, shown
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.evaluation.evaluate import make_setup
from phonofilm.evaluation.figures import summarise_metric
from phonofilm.evaluation.metric import Figure, Metric, Setup
from phonofilm.evaluation.page_parts import foldable
from phonofilm.evaluation.result import read_result
from phonofilm.evaluation.rows import Row, measured, not_applicable


class Levels(Metric):
    name, title, source = "levels", "Levels", "a test"
    figures = (Figure("rms", "RMS"), Figure("lufs", "Loudness"))

    def measure(self, clip: object) -> Row:
        raise NotImplementedError


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    shown(folder / "short.mp4", ball(7, num_frames=5, size=32).frames, noise(1))
    shown(folder / "long.mp4", ball(7, num_frames=25, size=32).frames, noise(1))
    (folder / "text.mp4").write_text("no clip")
    return folder


def test_a_figure_is_of_the_clips_that_have_it() -> None:
    rows = [measured({"rms": 1.0}), measured({"rms": 3.0, "lufs": 5.0}), not_applicable("silent")]
    summary = summarise_metric(Levels(Setup()), rows, ["x"] * 3)
    rms, lufs = Levels.figures
    assert (summary.ok_of(rms), summary.ok_of(lufs), summary.total) == (2, 1, 3)
    assert summary.figures["rms"].ci95 is not None
    assert summary.figures["lufs"].ci95 is None, "one clip says nothing of how clips differ"


def test_rows_without_any_figure_have_none() -> None:
    assert summarise_metric(Levels(Setup()), [measured({}), measured({})], ["x", "y"]).figures == {}


def test_the_report_and_its_table_count_the_clips_of_each_figure(clips: Path, tmp_path: Path) -> None:
    call = ["evaluate", str(clips), "--metrics", "amplitude", "--jobs", "1", "-o", str(tmp_path / "report")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    lines = {
        line.split("│")[1].strip(): line.split("│")[-2].strip() for line in done.output.splitlines() if "│" in line
    }
    assert (lines["RMS"], lines["Loudness"]) == ("2 of 3", "1 of 3")
    figures = read_result(tmp_path / "report")["metrics"]["amplitude"]["figures"]
    assert (figures["rms"]["n_ok"], figures["lufs"]["n_ok"]) == (2, 1)


def test_a_run_fails_where_every_clip_that_a_metric_applies_to_failed(tmp_path: Path, clips: Path) -> None:
    still = np.zeros(48_000, np.float32)
    shown(clips / "silent.mp4", ball(7, num_frames=5, size=32).frames, still)
    call = [
        "evaluate",
        str(clips / "silent.mp4"),
        "--metrics",
        "amplitude",
        "--jobs",
        "1",
        "-o",
        str(tmp_path / "report"),
    ]
    assert CliRunner().invoke(app, call).exit_code == 0, "it applies to no clip"
    assert CliRunner().invoke(app, [*call, str(clips / "text.mp4")]).exit_code == 3


def test_a_recogniser_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder with a Whisper model, and it is not tiny\.en"):
        make_setup("compat", None, "cpu", "nosuch", None)
    with pytest.raises(InputError, match="without a model"):
        make_setup("compat", None, "cpu", "", "http://127.0.0.1:1/v1")
    assert make_setup("compat", None, "cpu", str(tmp_path), None).asr == str(tmp_path)


def test_what_is_wrong_with_a_clip_stands_on_its_card(clips: Path, tmp_path: Path) -> None:
    call = [
        "evaluate",
        str(clips),
        "--metrics",
        "container,amplitude,lse",
        "--jobs",
        "1",
        "-o",
        str(tmp_path / "report"),
    ]
    CliRunner().invoke(app, call)
    page = (tmp_path / "report" / "report.html").read_text()
    card = page[page.index('aria-label="text"') :].split("</article>")[0]
    before_rows = card[: card.index("<details>")]
    assert '<ul class="problems"><li>' in before_rows
    assert "<video" not in before_rows, "no player plays it"


def test_a_long_reason_in_a_cell_is_opened_by_the_reader() -> None:
    assert foldable("short & plain") == "short &amp; plain"
    long = " ".join(["missing <weights>"] * 20)
    text = foldable(long)
    assert text.startswith("<details><summary>missing &lt;weights&gt; ")
    assert text.count("&lt;weights&gt;") > 20
    assert len(text[: text.index("</summary>")]) < 200
