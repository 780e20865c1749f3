"""A manifest is read from every form that users have, and what is wrong with it is reported with its line."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from phonofilm.data.manifest import Item, read_manifest
from phonofilm.data.sets import read_sources
from phonofilm.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MOV", "voice.wav"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_is_captioned_by_the_text_beside_each_clip(folder: Path) -> None:
    (folder / "b.txt").write_text("a red ball\n", encoding="utf-8")
    (folder / "sub").mkdir()
    (folder / "sub" / "c.webm").write_bytes(b"x")
    (folder / "sub" / "c.txt").write_text("", encoding="utf-8")
    (folder / ".hidden.mp4").write_bytes(b"x")
    items = read_manifest(folder)
    assert [(i.file.name, i.caption) for i in items] == [("a.MOV", None), ("b.mp4", "a red ball"), ("c.webm", "")]


def test_the_originals_metadata_json(folder: Path) -> None:
    rows = [{"video_path": "b.mp4", "caption": "one"}, {"path": "a.MOV", "caption": "two"}]
    (folder / "metadata.json").write_text(json.dumps(rows))
    assert [(i.file.name, i.caption) for i in read_manifest(folder)] == [("b.mp4", "one"), ("a.MOV", "two")]
    assert read_manifest(folder / "metadata.json") == read_manifest(folder)


def test_csv_and_jsonl_say_the_same(folder: Path) -> None:
    csv, jsonl = folder / "list.csv", folder / "list.jsonl"
    csv.write_text(
        'file,caption,audio,start,end,repeats\nb.mp4,"says: ""hi, there""",voice.wav,0.5,2.5,3\na.MOV,,,,,\n',
        encoding="utf-8-sig",
    )
    rows = [
        {"file": "b.mp4", "caption": 'says: "hi, there"', "audio": "voice.wav", "start": 0.5, "end": 2.5, "repeats": 3},
        {"file": "a.MOV", "caption": ""},
    ]
    jsonl.write_text("\n\n".join(json.dumps(row) for row in rows))
    first, second = read_manifest(csv)
    audio = folder / "voice.wav"
    stretch = (Fraction(1, 2), Fraction(5, 2))
    assert first == Item(folder / "b.mp4", 'says: "hi, there"', audio, *stretch, repeats=3, origin=f"{csv}, line 2")
    assert first.name == "b.mp4[0.5-2.5]"
    assert (second.caption, second.audio, second.repeats, second.name) == ("", None, 1, "a.MOV")
    assert [i.origin for i in read_manifest(jsonl)] == [f"{jsonl}, line 1", f"{jsonl}, line 3"]
    assert [(i.file, i.caption, i.audio, i.start, i.end, i.repeats) for i in read_manifest(jsonl)] == [
        (i.file, i.caption, i.audio, i.start, i.end, i.repeats) for i in (first, second)
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "file,caption\nb.mp4,x\nnone.mp4,x\n", "line 3: no file at"),
        ("m.csv", "file,caption\nb.mp4,one, two\n", "line 2: more values than columns"),
        ("m.csv", "caption\nb\n", "line 2: no file is named"),
        ("m.csv", 'file,caption\nb.mp4,"open\n', "not CSV"),
        ("m.csv", "file,caption\n", "lists no clips"),
        ("m.jsonl", '{"file": "b.mp4"}\n{"file": \n', "line 2: not JSON"),
        ("m.jsonl", '{"file": "b.mp4", "star": 1}', "line 1: unknown column 'star'"),
        ("m.jsonl", '{"file": "b.mp4", "path": "b.mp4"}', "file is given twice"),
        ("m.jsonl", '{"file": "b.mp4", "start": 2, "end": 1}', "end 1 is not after start 2"),
        ("m.jsonl", '{"file": "b.mp4", "start": -1}', "before the clip's first frame"),
        ("m.jsonl", '{"file": "b.mp4", "start": "x"}', "not a number of seconds"),
        ("m.jsonl", '{"file": "b.mp4", "repeats": 0}', "repeats 0"),
        ("m.jsonl", '{"file": "b.mp4", "repeats": 1.5}', "repeats 1.5"),
        ("m.jsonl", '{"file": "b.mp4", "caption": 5}', "caption 5 is not text"),
        ("m.jsonl", '{"file": 7}', "file 7 is not a path"),
        ("m.jsonl", "[1]", "not an object"),
        ("m.json", '[\n{"file": "b.mp4"},\n]', "line 3: not JSON"),
        ("m.json", "{}", "expected a list"),
        ("m.json", '[{"file": "b.mp4"}, {"file": "q.mp4"}]', "entry 2: no file at"),
        ("m.yaml", "", "is no manifest"),
        ("m.json", "[" * 100_000, "nested more than 64 levels"),
        ("m.jsonl", '{"file": "b.mp4"}\n' + "[" * 100_000, "line 2: it is nested more than 64 levels"),
        ("m.jsonl", '{"file": "b.mp4", "repeats": ' + "9" * 5000 + "}", "line 1: it holds an integer of 5,000 digits"),
        ("m.csv", "file,caption,repeats\nb.mp4,x," + "9" * 5000 + "\n", "repeats '999.* is not a whole number"),
        ("m.jsonl", '{"file": "b.mp4", "repeats": 1001}', "from 1 to 1000"),
        ("m.jsonl", '{"file": "b.mp4", "start": "1e999999999"}', "not a number of seconds"),
        ("m.jsonl", '{"file": "b.mp4", "start": 1e999}', "line 1: it holds 1e999"),
        ("m.jsonl", '{"file": "b.mp4", "end": NaN}', "line 1: it holds NaN"),
        ("m.jsonl", '{"file": "' + "n" * 5000 + '"}', "line 1: no file at .*cannot be reached"),
        ("m.jsonl", '{"file": "b\\u0000.mp4"}', "NUL"),
        ("m.jsonl", '{"file": "."}', "that is a folder"),
        ("m.jsonl", '{"file": "b.mp4", "caption": "\\ud800"}', "half of a character"),
    ],
)
def test_a_mistake_is_reported_with_its_place(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(folder / name)


def test_every_mistake_is_one_short_line(folder: Path) -> None:
    (folder / "m.jsonl").write_text('["' + "x" * 100_000 + '"]')
    with pytest.raises(InputError) as raised:
        read_manifest(folder / "m.jsonl")
    assert len(str(raised.value)) < 1000
    assert len(str(raised.value).splitlines()) == 1


def test_a_caption_may_hold_separators_that_are_no_line_feeds(folder: Path) -> None:
    (folder / "m.jsonl").write_text('{"file": "b.mp4", "caption": "a\u2028b\x85c"}\n', encoding="utf-8")
    assert read_manifest(folder / "m.jsonl")[0].caption == "a\u2028b\x85c"
    (folder / "m.csv").write_text('file,caption\nb.mp4,"a\u2028b"\n', encoding="utf-8")
    assert read_manifest(folder / "m.csv")[0].caption == "a\u2028b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- &a {path: x}\n- *a\n", "aliases"),
        ("[" * 20_000, "not YAML"),
        ("- {path: clips, weight: " + "9" * 5000 + "}", "not YAML|weight"),
        ("- \x00", "not YAML"),
        ("- {path: clips, weight: .nan}", "weight nan is outside"),
    ],
)
def test_sets_that_cannot_be_read_are_one_line(folder: Path, text: str, message: str) -> None:
    (folder / "sets.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_sources(folder / "sets.yaml")
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 1000


def test_text_that_is_not_utf8(folder: Path) -> None:
    (folder / "m.csv").write_bytes(b"file,caption\nb.mp4,caf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_manifest(folder / "m.csv")


def test_a_folder_that_holds_nothing_or_two_manifests(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder or manifest"):
        read_manifest(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no clips"):
        read_manifest(tmp_path / "empty")
    for name in ("metadata.json", "metadata.csv"):
        (folder / name).write_text("[]")
    with pytest.raises(InputError, match="name the one to use"):
        read_manifest(folder)
