"""Files of captions that a distillation learns from: what is read, and that nothing else is taken for captions."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from phonofilm.data.caption_cache import Caption, read_captions
from phonofilm.errors import InputError


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.JSONL"])
def test_lines_of_json_give_captions_and_pictures(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / name).write_text('{"caption": "a", "image": null}\n\n{"caption": "b", "image": "x.png"}\n')
    assert read_captions(tmp_path / name) == (Caption("a"), Caption("b", tmp_path / "x.png"))


def test_text_gives_a_caption_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('a {"b"}\n\n{not json}\n')
    assert [one.caption for one in read_captions(tmp_path / "a.txt")] == ['a {"b"}', "{not json}"]


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.yaml", "a", "a.txt.gz"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('["a", "b"]\n')
    with pytest.raises(InputError, match=r"expected a name that ends in \.txt.*or in \.jsonl or \.ndjson"):
        read_captions(tmp_path / name)


def test_json_in_a_text_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('a caption\n{"caption": "b"}\n')
    with pytest.raises(InputError, match=r"line 2 is a JSON object.*call the file a\.jsonl"):
        read_captions(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"caption": "a", "caption": "b"}', "line 1 .*twice"),
        ('{"caption": "a", "image": "' + "x" * 300 + '"}', "line 1: no image at .*cannot be reached"),
        ('{"caption": "a", "image": "none.png"}', "line 1: no image at .*there is no such file"),
        ('{"caption": null}', "line 1 has no caption"),
        ('{"caption": "a", "picture": "x.png"}', "expected text under some of"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        read_captions(tmp_path / "a.jsonl")
