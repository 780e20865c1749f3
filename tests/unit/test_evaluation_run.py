"""From clips to result.json: states, resuming, pooling, the published table, two reports compared."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation_clips import ball, noise, shown
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.evaluation.catalogue import CLASSES, build, suite
from phonofilm.evaluation.clip_cards import clip_card
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_list import list_clips
from phonofilm.evaluation.compare import differences, paired_figures, without_partner
from phonofilm.evaluation.evaluate import evaluate, plan_evaluation, write_report
from phonofilm.evaluation.figures import summarise_metric
from phonofilm.evaluation.generating import parse_setting, shipped_prompts
from phonofilm.evaluation.metric import Figure, Metric, Setup
from phonofilm.evaluation.page_parts import media_source
from phonofilm.evaluation.paper import SETS, compare_with_paper
from phonofilm.evaluation.prompt_items import choose_sets, item_of, read_prompt_items
from phonofilm.evaluation.requirements import Package, Requirements, WeightFile
from phonofilm.evaluation.result import clip_files, read_result, result_json
from phonofilm.evaluation.row_cache import RowCache
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.weights import check, find_weights

CHEAP = ("amplitude", "container", "nano_sync")
PROMPTS = {
    "indoors": {"1": {"prompt": "a ball", "speech_prompt": {"speaker": "A", "text": "hello"}}, "12": {"prompt": "b"}},
    "outdoors": {"2": {"prompt": "c", "audio_prompt": ["knock", "hum"]}, "9": {"prompt": "no clip"}},
}


class Loaded(Metric):
    """A metric with everything that can be missing."""

    name = "loaded"
    title = "Loaded"
    figures = (Figure("p808", "DNSMOS", paper="DNSMOS", better="higher"),)
    source = "a test"

    @property
    def needs(self) -> Requirements:
        weights = WeightFile("net.pt", 4, "9f86...0a08", "CC0", "a page")
        return Requirements((Package("json", "evaluate"),), (weights,), ("A_KEY",))

    def measure(self, clip: ClipFacts) -> Row:
        return measured({"p808": 1.0})


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    moving = ball(7, num_frames=25, size=32).frames
    for name, wave in (("1_step", noise(1)), ("12_step", 0.5 * noise(1)), ("2_step", None)):
        shown(folder / f"{name}.mp4", moving, wave)
    (folder / "9_broken.mp4").write_bytes(b"no clip at all")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    return folder


@pytest.fixture(scope="module")
def report(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command, in two processes."""
    folder = tmp_path_factory.mktemp("report")
    arguments = [str(clips), "--prompts", str(clips / "prompts.json"), "--metrics", ",".join(CHEAP), "--jobs", "2"]
    done = CliRunner().invoke(app, ["evaluate", *arguments, "-o", str(folder)])
    assert done.exit_code == 0, done.output
    assert str(folder / "report.html") in done.output.replace("\n", "")
    return folder


def test_every_row_has_a_state_and_only_ok_rows_count(report: Path) -> None:
    result = read_result(report)
    rows = {clip["id"]: clip["rows"] for clip in result["clips"]}
    assert list(rows) == ["12_step", "1_step", "2_step", "9_broken"]
    states = {name: [row["state"] for row in one.values()] for name, one in rows.items()}
    assert states["1_step"][:2] == ["ok", "ok"]
    assert rows["2_step"]["amplitude"]["state"] == "not_applicable"
    assert "no sound" in rows["2_step"]["amplitude"]["reason"]
    assert states["9_broken"] == ["failed"] * 3
    amplitude = result["metrics"]["amplitude"]
    assert (amplitude["n_ok"], amplitude["n_total"]) == (2, 4)
    loud, quiet = (rows[name]["amplitude"]["value"] for name in ("1_step", "12_step"))
    assert loud - quiet == pytest.approx(6.02, abs=0.3)
    assert amplitude["value"] == pytest.approx((loud + quiet) / 2, abs=1e-6)
    assert amplitude["ci95"] == pytest.approx([quiet, loud], abs=1e-6)
    assert amplitude["state_counts"] == {"ok": 2, "not_applicable": 1, "unavailable": 0, "failed": 1, "skipped": 0}
    assert result["inputs"][0]["prompt"] == "b"
    probes = [one["probe"] for one in result["inputs"]]
    assert probes[0] == {"width": 32, "height": 32, "picture_start": 0.0, "sound_start": 0.0}
    assert probes[2]["sound_start"] is None
    assert "error" in probes[3]


def test_a_second_run_takes_up_what_is_measured(report: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phonofilm.evaluation.metrics.container import Container

    measured_anew: list[str] = []
    monkeypatch.setattr(
        Container, "measure", lambda self, clip: measured_anew.append(clip.id) or measured({"problems": 0.0})
    )
    again = evaluate(plan_evaluation([clips], report, CHEAP, Setup(), clips / "prompts.json", jobs=1))
    assert measured_anew == ["9_broken"]  # what failed is tried again
    before, after = read_result(report), result_json(again, report)
    assert before["metrics"]["amplitude"] == after["metrics"]["amplitude"]
    evaluate(plan_evaluation([clips / "1_step.mp4"], report, CHEAP, Setup("fixed"), jobs=1))
    assert measured_anew[1:] == ["1_step"]  # another profile


def test_rows_that_were_edited_are_measured_again(tmp_path: Path) -> None:
    clip = ClipFacts(_files(tmp_path, "1.mp4") / "1.mp4", "1")
    cache, metric = RowCache(tmp_path / "rows"), Loaded(Setup())
    cache.keep(metric, clip, measured({"p808": 1.5}, {"frames": 3}, {"motion": [0.1, float("nan")]}))
    (file,) = (tmp_path / "rows").rglob("*.json")
    assert cache.read(metric, clip) == Row("ok", {"p808": 1.5}, {"frames": 3}, {"motion": [0.1, None]})  # type: ignore[list-item]
    kept = json.loads(file.read_text())
    for change in ({"state": "banana"}, {"values": {}}, {"values": {"p808": "high"}}, {"detail": 3}, {"seconds": 1.0}):
        file.write_text(json.dumps({**kept, "row": {**kept["row"], **change}}))
        assert cache.read(metric, clip) is None
    for text in ("[]", json.dumps(kept["row"]), json.dumps({**kept, "row": 3})):
        file.write_text(text)
        assert cache.read(metric, clip) is None


def test_a_row_that_cannot_be_kept_is_in_the_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown(tmp_path / "1.mp4", ball(7, num_frames=5, size=32).frames, None)
    rows = _files(tmp_path, "report/rows") / "report"  # a file where the rows' folder should be
    run = evaluate(plan_evaluation([tmp_path / "1.mp4"], rows, ("container",), Setup(), jobs=1))
    assert run.rows["1"]["container"].state == "ok"
    assert "container of 1 is measured again next time" in caplog.text


def test_what_is_missing_is_said_with_size_licence_and_place(tmp_path: Path) -> None:
    environment = {"A_KEY": "x"}
    lacking = check(Loaded(Setup()), environment=environment)
    assert lacking.readiness == "missing weights"
    assert all(part in lacking.reason for part in ("net.pt", "4 bytes", "CC0", "a page", "9f86...0a08", "--weights"))
    (tmp_path / "net.pt").write_bytes(b"tes")
    there = Loaded(Setup(weights=tmp_path))
    assert "3 bytes" in check(there, environment=environment).reason
    (tmp_path / "net.pt").write_bytes(b"test")
    assert check(there, hashes=True, environment=environment).readiness == "ready"
    assert find_weights(there.needs.weights[0], tmp_path) == tmp_path / "net.pt"
    (tmp_path / "net.pt").write_bytes(b"tess")
    assert "sha256" in check(there, hashes=True, environment=environment).reason
    assert check(there, environment={}).readiness == "needs a key"


def test_prompts_are_found_by_the_longest_name(clips: Path) -> None:
    items = read_prompt_items(clips / "prompts.json")
    assert [item.speech for item in items] == ["hello", "", "", ""]
    assert items[2].audio_prompt == "knock hum"
    found = {name: item_of(name, items) for name in ("1", "12_video", "1-a", "123", "x1")}
    assert {name: item and item.id for name, item in found.items()} == {
        "1": "1",
        "12_video": "12",
        "1-a": "1",
        "123": None,
        "x1": None,
    }


def _files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_folders_are_categories_and_names_stay_apart(tmp_path: Path) -> None:
    entries = list_clips([_files(tmp_path, "a/one.mp4", "b/one.mp4", "top.mp4")])
    assert [(entry.category, entry.id) for entry in entries] == [("", "top"), ("a", "a/one"), ("b", "b/one")]
    with pytest.raises(InputError, match="no file or folder"):
        list_clips([tmp_path / "none"])


def test_clips_of_two_models_pair_by_their_place_below_the_given_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _files(tmp_path / "A", "set1/1.mp4", "set2/1.mp4", "set2/2.mp4", "set2/2.webm")
    second = _files(tmp_path / "B", "set1/1.mp4")
    ids = [[entry.id for entry in list_clips([folder])] for folder in (first, second)]
    assert ids == [["set1/1", "set2/1", "set2/2.mp4", "set2/2.webm"], ["set1/1"]]
    assert without_partner(*ids) == "without a partner, and not compared: 3 clips of A (set2/1, ...)"
    assert without_partner(ids[1], ids[1]) == ""
    assert [entry.id for entry in list_clips([first / "set1", second / "set1"])] == ["A/set1/1", "B/set1/1"]
    monkeypatch.chdir(tmp_path)
    given = [Path("A/set1/1.mp4"), Path("./A/../A/set1/1.mp4"), Path("A/set1")]
    assert [(entry.id, entry.path) for entry in list_clips(given)] == [("1", given[0])]
    assert [entry.id for entry in list_clips([first, second])][:3] == ["A/set1/1", "B/set1/1", "set2/1"]


def test_a_set_is_the_mean_of_its_categories() -> None:
    rows = [measured({"p808": value}) for value in (1.0, 1.0, 4.0)] + [not_applicable("silent")]
    summary = summarise_metric(Loaded(Setup()), rows, ["set1", "set1", "set2", "set2"])
    assert summary.figures["p808"].value == 2.5
    assert summary.per_category == {"set1": {"p808": 1.0}, "set2": {"p808": 4.0}}
    assert (summary.ok, summary.total, summary.reasons) == (3, 4, (("silent", 1),))


def _summary(ok: int) -> Any:
    names = [name for name, count in SETS.items() for _ in range(count)]
    rows = [measured({"p808": 3.0 + (name == "set3")}) for name in names]
    spoken = [at for at, name in enumerate(names) if name == "set3"]
    for at in spoken[ok:]:
        rows[at] = not_applicable("silent")
    return summarise_metric(Loaded(Setup()), rows, names)


def _reasons(ok: int, profile: str, asked: dict[str, int]) -> tuple[float | None, Sequence[str]]:
    class Named(Loaded):
        name = "dnsmos"

    (found,) = compare_with_paper([Named(Setup())], {"dnsmos": _summary(ok)}, profile, asked)
    return found.value, found.reasons


def test_the_published_column_is_comparable_only_under_its_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phonofilm.evaluation.figures.RESAMPLES", 5)
    assert _reasons(95, "compat", SETS) == (4.0, ())  # of set3 alone
    assert "94 of Verse-Bench's 100" in _reasons(94, "compat", SETS)[1][0]
    assert "fixed" in _reasons(100, "fixed", SETS)[1][0]
    assert _reasons(100, "compat", {"set3": 50})[1]


def test_two_reports_are_compared_clip_by_clip(report: Path, tmp_path: Path) -> None:
    first = read_result(report)
    second = json.loads(json.dumps(first))
    for clip in second["clips"]:
        row = clip["rows"]["amplitude"]
        row["values"] = {name: value + 1 for name, value in row["values"].items()}
    found = {one.figure: one for one in differences(paired_figures(first, second)) if one.metric == "amplitude"}
    assert found["rms_dbfs"].difference == pytest.approx(1)
    assert (found["rms_dbfs"].clips, found["rms_dbfs"].verdict) == (2, "different")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "result.json").write_text(json.dumps(second))
    done = CliRunner().invoke(app, ["evaluate", "compare", str(report), str(tmp_path / "b"), "-o", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "c" / "compare.json").read_text())["differences"][0]["clips"] == 2
    page = (tmp_path / "c" / "compare.html").read_text()
    assert "B − A" in page
    second["inputs"] = [{**one, "path": str(report / one["path"])} for one in first["inputs"]]
    (tmp_path / "b" / "result.json").write_text(json.dumps(second))
    done = CliRunner().invoke(app, ["evaluate", "compare", str(report), str(tmp_path / "b"), "-o", str(tmp_path / "c")])
    page = (tmp_path / "c" / "compare.html").read_text()
    assert page.count("data:video/mp4;base64,") == 8
    second["profile"] = "fixed"
    with pytest.raises(InputError, match="one profile"):
        differences(paired_figures(first, second))


def test_results_that_were_edited_into_something_else_are_refused(report: Path, tmp_path: Path) -> None:
    whole = read_result(report)
    row = next(iter(whole["clips"][0]["rows"]))
    edited: dict[str, object] = {
        "it has no profile": {"schema": 1, "clips": []},
        "clips is no list": {**whole, "clips": 5},
        f"clips[0].rows.{row}.values": {**whole, "clips": [{"id": "a", "rows": {row: {"state": "ok"}}}]},
        "it has no inputs": {key: value for key, value in whole.items() if key != "inputs"},
        "inputs[0].path": {**whole, "inputs": [{"id": "a"}]},
        "metrics.clap has no figures": {**whole, "metrics": {"clap": {}}},
    }
    file = tmp_path / "result.json"
    for expected, value in edited.items():
        file.write_text(json.dumps(value))
        with pytest.raises(InputError, match=re.escape(expected)):
            read_result(file)


def test_wrong_calls_say_what_would_do(clips: Path) -> None:
    calls = {
        ("evaluate", str(clips)): "-o is missing",
        ("evaluate", str(clips / "none")): "no file or folder",
        ("evaluate", "-o", "r"): "no clips are named",
        ("evaluate", str(clips), "-o", "r", "--metrics", ""): "names no metric",
        ("evaluate", str(clips), "-o", "r", "--metrics", " , "): "names no metric",
        ("evaluate", str(clips), "-o", "r", "--suite", "sync", "--metrics", "container"): "give one",
        ("evaluate", str(clips), "-o", "r", "--set", "indoors"): "--prompts",
        ("evaluate", str(clips), "-o", "r", "--metrics", "fvd"): "there is no metric 'fvd'",
        ("evaluate", str(clips), "-o", "r", "--suite", "verse"): "there is no suite 'verse'",
        ("evaluate", str(clips), "-o", "r", "--profile", "exact"): "compat, fixed",
        ("evaluate", str(clips), "-o", "r", "--weights", "nowhere"): "nowhere",
    }
    for call, expected in calls.items():
        done = CliRunner().invoke(app, list(call))
        assert done.exit_code == 2, done.output
        assert expected in done.output
    printed = CliRunner().invoke(app, ["evaluate", "--help"]).output.split()
    assert "phonofilm evaluate run --help" in " ".join(printed)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"a": {"1": {"prompt": "x", "speech_prompt": "hello"}}}', "speech_prompt is 'hello'"),
        ('{"a": {"1": {"prompt": "x", "speech_prompt": {"text": 5}}}}', '{"text": "what is to be said"}'),
        ('{"a": {" ": {"prompt": "x"}}}', "an item of a has an empty id"),
        ('{"a": {"1": {"prompt": "x"}, "1": {"prompt": "y"}}}', "'1' twice"),
        ('{"a": {"1_step": {"prompt": "x"}}, "b": {"1_step": {"prompt": "y"}}}', "in a and in b"),
    ],
)
def test_prompts_that_would_be_lost_are_refused(clips: Path, tmp_path: Path, content: str, fault: str) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(content)
    with pytest.raises(InputError) as refused:
        plan_evaluation([clips], tmp_path / "report", ("container",), Setup(), prompts)
    assert fault in str(refused.value)


def test_the_plan_says_what_is_passed_over_and_what_is_replaced(report: Path, clips: Path, tmp_path: Path) -> None:
    folder = _files(tmp_path, "1.mp4", "notes.txt", "sound.m4a", ".hidden", "1.txt", "p.json", "report/report.html")
    plan = plan_evaluation([folder], folder / "report", ("container",), Setup(), jobs=1)
    assert plan.summary.splitlines() == [
        "2 files are no clips: notes.txt, sound.m4a",
        "1 clip, 1 metric (container), profile compat, 1 at a time",
    ]
    assert plan_evaluation([clips], report, CHEAP, Setup()).notes == ()
    (note,) = plan_evaluation([clips / "1_step.mp4"], report, ("container",), Setup("fixed")).notes
    assert (
        note
        == "replaces the folder's report, without its profile compat, amplitude, nano_sync, 3 clips (rows are kept)"
    )


def test_a_run_that_measured_nothing_ends_with_3(clips: Path, tmp_path: Path) -> None:
    for metric, missing in (("container", 3), ("cpcer", 0)):
        call = ["evaluate", str(clips / "9_broken.mp4"), "--metrics", metric, "--jobs", "1", "-o", str(tmp_path / "r")]
        assert CliRunner().invoke(app, call).exit_code == 3
        assert CliRunner().invoke(app, [*call, "--allow-missing"]).exit_code == missing
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Evaluation of 1 clip<" in page
    assert "transcribed by" not in page


def test_only_the_prompts_of_the_named_sets_are_without_a_clip(clips: Path, tmp_path: Path) -> None:
    plan = plan_evaluation([clips], tmp_path, ("cpcer",), Setup(), clips / "prompts.json", jobs=1, sets=("indoors",))
    assert (evaluate(plan).without_clip, len(plan.items)) == ((), 2)


def test_clips_are_made_under_several_settings_and_compared(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(
        json.dumps({"nano": {"a": {"prompt": "A bouncing green ball."}}, "other": {"b": {"prompt": "B"}}})
    )
    call = [
        "evaluate",
        "--generate",
        "--prompts",
        str(prompts),
        "--set",
        "nano",
        "--metrics",
        "amplitude",
        "--jobs",
        "1",
    ]
    settings = ["--setting", "few:steps=1,num_frames=5", "--setting", "more:steps=2,num_frames=5"]
    done = CliRunner().invoke(app, [*call, *settings, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    made = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.mp4"))
    assert made == ["clips/few/nano/a.mp4", "clips/more/nano/a.mp4"]
    few, more = (read_result(tmp_path / "out" / name) for name in ("few", "more"))
    assert few["inputs"][0]["prompt"] == more["inputs"][0]["prompt"] == "A bouncing green ball."
    assert few["inputs"][0]["sha256"] != more["inputs"][0]["sha256"]
    assert (tmp_path / "out" / "few-more" / "compare.html").is_file()
    done = CliRunner().invoke(app, [*call, "--setting", "few:steps=2,num_frames=5", "-o", str(tmp_path / "out")])
    assert "1 of 1 clips are there already and were made with other options" in " ".join(done.output.split())


def test_settings_and_sets_that_do_not_exist_are_refused() -> None:
    items = read_prompt_items(shipped_prompts())
    assert {item.category for item in items} == {"nano", "speech", "events", "music"}
    assert len(choose_sets(items, ["speech", "music"])) == 8
    with pytest.raises(InputError, match="there are nano, speech"):
        choose_sets(items, ["set9"])
    assert parse_setting("dual:modality_scale=3.5,steps=8").options.steps == 8
    for text in (":steps=8", "a:steps", "a:stepz=8", "a:steps=x"):
        with pytest.raises(InputError, match="setting"):
            parse_setting(text)


def test_every_metric_describes_itself() -> None:
    assert set(suite("all")) == set(CLASSES)
    for metric in build(tuple(CLASSES), Setup()):
        assert metric.name in CLASSES
        assert metric.title
        assert metric.source
        assert all(figure.chance is None or isinstance(figure.chance, str | float) for figure in metric.figures)


def test_a_card_shows_who_said_what_and_where_lips_fit(clips: Path) -> None:
    rows = {
        "cpcer": measured({"cpcer": 0.1}, {"transcript": "[S01] Hi <b>. [S02] Yes.", "reference": "[S01] Hi."}),
        "lse": measured({"lse_d": 7.0}, series={"distance": [9.0, 7.0, 9.5], "offset_seconds": [-0.04, 0.0, 0.04]}),
    }
    (entry,) = list_clips([clips / "1_step.mp4"])
    card = clip_card(entry, rows, (), clips, embedded=False)
    assert '<b class="speaker1">S01</b><span>Hi &lt;b&gt;.</span>' in card
    assert '<b class="speaker2">S02</b><span>Yes.</span>' in card
    assert "offsets of -0.04 to +0.04 s; lowest 7.00" in card
    assert 'src="1_step.mp4"' in card


def test_names_that_are_no_text_lose_no_report(clips: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"bad\xff.mp4")
    shutil.copyfile(clips / "1_step.mp4", named)
    run = evaluate(plan_evaluation([tmp_path], tmp_path / "report", ("container",), Setup(), jobs=1))
    for file in write_report(run, tmp_path / "report"):
        assert "bad\\udcff" in file.read_text(encoding="utf-8")
    assert clip_files(tmp_path / "report") == {named.stem: tmp_path / "report" / ".." / named.name}
    assert media_source(named, tmp_path, False) == "bad%FF.mp4"


def test_the_report_asks_for_nothing_outside(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('<article class="card"') == 4
    assert page.count("data:video/mp4;base64,") == 3, "no player plays what is no clip"
