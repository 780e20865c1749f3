"""Evaluation of what is damaged, moved away, crafted or too little: a report all the same, and no figure that is none."""

from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluation_clips import ball, noise, shown
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError, MediaError
from phonofilm.evaluation.arena.ratings import rate
from phonofilm.evaluation.arena.votes import Vote, VoteFile
from phonofilm.evaluation.catalogue import CLASSES, build
from phonofilm.evaluation.clip_cards import clip_card
from phonofilm.evaluation.clip_facts import ClipFacts, TrackFacts
from phonofilm.evaluation.clip_list import list_clips, passed_over
from phonofilm.evaluation.compare import differences, paired_figures, remarks
from phonofilm.evaluation.evaluate import evaluate, make_setup, plan_evaluation, write_report
from phonofilm.evaluation.figures import summarise_metric
from phonofilm.evaluation.lag import GRID, find_lag, on_grid
from phonofilm.evaluation.metric import Figure, Metric, Setup
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.result import clip_files, read_result
from phonofilm.evaluation.result_check import check_result
from phonofilm.evaluation.row_cache import RowCache, _digest
from phonofilm.evaluation.rows import Row, measured
from phonofilm.evaluation.text_tables import reason_lines

METRICS = ("container", "amplitude")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    moving = ball(7, num_frames=25, size=32).frames
    for name in ("a", "b"):
        shown(folder / f"{name}.mp4", moving, noise(1))
    shown(folder / "still.mp4", np.full((25, 32, 32, 3), 90, np.uint8), noise(1))
    return folder


def measured_report(clips: Path, folder: Path, metrics: tuple[str, ...] = METRICS) -> Path:
    write_report(evaluate(plan_evaluation([clips], folder, metrics, Setup(), jobs=1)), folder)
    return folder


def test_every_figures_chance_is_one_that_a_result_may_have(clips: Path, tmp_path: Path) -> None:
    result = read_result(measured_report(clips, tmp_path))
    for metric in build(tuple(CLASSES), Setup()):
        figures = {one.name: {"better": one.better, "label": one.label, "chance": one.chance} for one in metric.figures}
        check_result({**result, "metrics": {metric.name: {"figures": figures}}}, metric.name)
    for chance in (True, [], 1e300):
        figures = {"a": {"better": "none", "label": "A", "chance": chance}}
        with pytest.raises(InputError, match="chance is neither a number"):
            check_result({**result, "metrics": {"a": {"figures": figures}}}, "it")


def test_reports_with_av_align_are_compared_clip_by_clip(clips: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        measured_report(clips, tmp_path / name, ("av_align", "container"))
    done = CliRunner().invoke(
        app, ["evaluate", "compare", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "both")]
    )
    assert done.exit_code == 0, done.output
    compared = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert {one["clip"] for one in compared["clips"]} == {"a", "b", "still"}
    assert {one["metric"] for one in compared["differences"]} == {"av_align", "container"}
    assert (tmp_path / "both" / "compare.html").read_text().count("<summary>Figures</summary>") == 3


class Level(Metric):
    name = "level"
    title = "Level"
    figures = (Figure("level", "Level"),)
    source = "a test"

    @property
    def needs(self) -> Requirements:
        return Requirements()

    def measure(self, clip: ClipFacts) -> Row:
        raise NotImplementedError


class PooledLevel(Level):
    pooling = "clips"


def test_a_category_of_one_clip_says_nothing_of_how_clips_differ() -> None:
    rows = [measured({"level": float(value)}) for value in (1, 5, 9)]
    lonely = summarise_metric(Level(Setup()), rows, ["x", "x", "y"]).figures["level"]
    assert (lonely.value, lonely.ci95) == (6.0, None)
    pooled = summarise_metric(PooledLevel(Setup()), rows, ["x", "y", "z"]).figures["level"]
    assert pooled.value == 5.0
    assert pooled.ci95 is not None
    assert pooled.ci95[0] < 3 < 7 < pooled.ci95[1]
    same = summarise_metric(Level(Setup()), [*rows, rows[0]], ["x", "x", "y", "y"]).figures["level"]
    assert same.ci95 is not None


def test_a_vote_that_does_not_fit_on_the_disk_is_not_kept(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.jsonl")
    vote = Vote("1", "a", "b", "overall", "left", "2026-11-29T00:00:00+00:00")
    file.append([vote] * 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.path.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(InputError, match="could not be kept"):
            file.append([vote])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.path.read_text() == (json.dumps(asdict(vote)) + "\n") * 3
    file.append([vote])
    assert len(VoteFile(file.path).read()) == 4


def test_a_clip_that_is_gone_or_cannot_be_read_loses_no_report(clips: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(clips, tmp_path / "clips"))
    plan = plan_evaluation([own], tmp_path / "report", METRICS, Setup(), jobs=1)
    (own / "a.mp4").unlink()
    run = evaluate(plan)
    (own / "b.mp4").unlink()
    write_report(run, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count('<article class="card"') == 3
    assert page.count("data:video/mp4") == 1
    assert "there is no such file" in page
    assert "the file cannot be read now" in page


def test_what_is_wrong_with_a_file_is_named(clips: Path, tmp_path: Path) -> None:
    run = evaluate(plan_evaluation([clips], tmp_path, METRICS, Setup(), jobs=1))
    (line,) = (line for line in reason_lines(run) if line.startswith("still:"))
    assert "the picture never changes" in line
    write_report(run, tmp_path)
    assert "the picture never changes" in (tmp_path / "report.html").read_text()


def test_a_sound_that_begins_an_hour_later_fills_no_memory_with_silence(clips: Path) -> None:
    facts = ClipFacts(clips / "a.mp4", "a")
    facts.__dict__["tracks"] = TrackFacts(
        facts.tracks.picture_start, facts.tracks.sound_start + 3600, facts.tracks.size
    )  # type: ignore[operator]
    with pytest.raises(MediaError, match=r"begins \+3,600 s from the picture"):
        facts.aligned_wave(16_000)


def test_a_speaker_of_5000_digits_has_a_colour(clips: Path) -> None:
    rows = {"cpcer": measured({"cpcer": 0.1}, {"transcript": f"[S{'9' * 5000}] Hi.", "reference": "[S01] Hi."})}
    (entry,) = list_clips([clips / "a.mp4"])
    assert 'class="speaker3"' in clip_card(entry, rows, (), clips, embedded=False)


def test_a_page_shows_no_file_but_the_clips_that_were_measured(clips: Path, tmp_path: Path) -> None:
    report = measured_report(clips, tmp_path / "report")
    assert clip_files(report).keys() == {"a", "b", "still"}
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP SECRET")
    result = json.loads((report / "result.json").read_text())
    for path in (
        "../secret.txt",
        str(secret),
        "x" * 5000,
        os.path.relpath(shown(tmp_path / "c.mp4", np.zeros((4, 32, 32, 3), np.uint8), None), report),
    ):
        result["inputs"][0]["path"] = path
        (report / "result.json").write_text(json.dumps(result))
        assert clip_files(report).keys() == {"b", "still"}


def test_results_that_cannot_be_reckoned_with_are_refused(clips: Path, tmp_path: Path) -> None:
    file = measured_report(clips, tmp_path) / "result.json"
    result = json.loads(file.read_text())

    def refused(match: str, **changes: Any) -> None:
        file.write_text(json.dumps({**result, **changes}))
        with pytest.raises(InputError, match=match):
            read_result(tmp_path)

    refused("schema 1", schema=True)
    refused("clips has a twice", clips=[*result["clips"], result["clips"][0]])
    huge = {**result["clips"][0], "rows": {"amplitude": {"state": "ok", "values": {"rms_dbfs": 1e308}}}}
    refused("values holds no numbers", clips=[huge])


def test_comparing_says_where_the_prompts_differ(clips: Path, tmp_path: Path) -> None:
    result = read_result(measured_report(clips, tmp_path))
    sides = [
        {**result, "inputs": [{**one, "prompt": f"{word} {one['id'] != 'a'}"} for one in result["inputs"]]}
        for word in ("x", "x")
    ]
    assert remarks(*sides) == ["every clip has a partner"]
    sides[1]["inputs"][0]["prompt"] = "another"
    assert remarks(*sides)[1] == "made from other prompts in A and B: 1 clip (a)"
    assert differences(paired_figures(*sides))


def test_hidden_files_are_no_clips_and_a_folder_that_cannot_be_listed_is_an_error(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(clips, tmp_path / "clips"))
    (own / ".hidden").mkdir()
    for name in ("._a.mp4", ".phonofilm-deadbeef-99999-0123456789ab.part.mp4", ".hidden/c.mp4"):
        shutil.copyfile(own / "a.mp4", own / name)
    assert [entry.id for entry in list_clips([own])] == ["a", "b", "still"]
    assert passed_over([own], tmp_path / "report") == ""
    (own / "locked").mkdir()
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match=r"locked cannot be listed \(Permission denied\)"):
        list_clips([own])


def votes_of(*games: str) -> list[Vote]:
    """ "A>B" is a vote for A, "A=B" a tie."""
    return [
        Vote("1", game[0], game[2], "overall", "left" if game[1] == ">" else "tie", "2026-11-29T00:00:00+00:00")
        for game in games
    ]


@pytest.mark.parametrize(
    ("games", "sure"),
    [
        (["A>B", "B>C", "C>D"] * 20, ""),  # all one way: no difference is too large
        (["A>B", "B>A", "C>D", "D>C"] * 20 + ["A>B"], "AB"),  # two islands
        (["A>B", "B>A"] * 20 + ["C>A"], "AB"),  # one vote, and won
        (["A>B", "B>C", "C>A"] * 20, "ABC"),
        (["A=B", "B>C", "C>B"] * 20, "ABC"),
    ],
)
def test_a_rating_has_an_interval_only_where_votes_tie_it_to_others(games: list[str], sure: str) -> None:
    assert "".join(sorted(one.model for one in rate(votes_of(*games)) if one.low is not None)) == sure


def test_kept_rows_that_nobody_measured_are_measured_again(clips: Path, tmp_path: Path) -> None:
    (metric,) = build(("amplitude",), Setup())
    clip = ClipFacts(clips / "a.mp4", "a")
    cache = RowCache(tmp_path)
    cache.keep(metric, clip, measured({"rms_dbfs": -3.0}))
    (file,) = tmp_path.rglob("*.json")
    good = json.loads(file.read_text())["row"]
    assert cache.read(metric, clip) is not None
    for change in (
        {"state": 'ok"><script>alert(9)</script>'},
        {"state": "failed"},
        {"values": {"rms_dbfs": None}},
        {"values": []},
        {"reason": 3},
        {"seconds": "1"},
        {"series": {"motion": 3}},
    ):
        row = {**good, **change}
        file.write_text(json.dumps({"row": row, "sha256": _digest(row)}))
        assert cache.read(metric, clip) is None


def test_a_report_that_cannot_be_written_is_refused_before_the_measuring(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(InputError, match=r"result\.json is a folder"):
        plan_evaluation([clips], tmp_path, METRICS, Setup())
    with pytest.raises(InputError, match="is no address of an endpoint"):
        make_setup("compat", None, "cpu", "m", "ftp://x")


def test_a_setting_without_making_clips_is_an_error(clips: Path, tmp_path: Path) -> None:
    words = ["evaluate", "run", str(clips), "--setting", "a:steps=2", "-o", str(tmp_path / "r")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "none are made without --generate" in done.output.replace("\n", " ")


def test_prompts_that_no_clip_is_named_after_are_said(clips: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"x": {"other": {"prompt": "a ball"}}}))
    plan = plan_evaluation([clips], tmp_path / "r", METRICS, Setup(), prompts)
    assert "no clip is named after an item of the prompt file" in plan.summary
    prompts.write_text(json.dumps({"x": {"a": {"prompt": "a ball", "speech_prompt": {"text": [1, {"a": 2}]}}}}))
    with pytest.raises(InputError, match="what is to be said"):
        plan_evaluation([clips], tmp_path / "r", METRICS, Setup(), prompts)


def bounces(first: float, until: float, falls: float) -> list[float]:
    """Times of a ball's landings, each after 0.8 of the time of the one before."""
    times, gap = [first], falls
    while times[-1] + gap < until and gap > 0.08:
        times.append(times[-1] + gap)
        gap *= 0.8
    return times


def curve(times: list[float], seconds: float, width: float, rate: float) -> np.ndarray:
    at = np.arange(round(seconds * rate)) / rate
    values = sum((np.exp(-0.5 * ((at - time) / width) ** 2) for time in times), np.zeros(len(at)))
    return on_grid(at, values, seconds)


def test_the_third_null_knows_a_single_strike_and_another_balls_bounces() -> None:
    seen = bounces(0.6, 7.5, 1.0)
    own = find_lag(curve(seen, 8.0, 0.03, 24), curve([time + 0.12 for time in seen], 8.0, 0.02, 100))
    assert own.seconds == pytest.approx(0.12, abs=2 / GRID)
    assert (own.p, own.warped_p) == (pytest.approx(1 / 201), pytest.approx(1 / 201))
    for theirs in ([3.3], bounces(0.4, 7.5, 0.75)):
        other = find_lag(curve([3.0] if len(theirs) == 1 else seen, 8.0, 0.03, 24), curve(theirs, 8.0, 0.02, 100))
        assert max(other.p, other.warped_p) > 0.03
