"""The settings come back from every kind of file, whatever is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest
from PIL import Image
from tests.media_makers import coloured_frames, flash_and_beep, write_frames_at

from phonofilm.errors import InputError, MediaError
from phonofilm.media import read_clip, read_metadata, save_clip

CLIP = flash_and_beep(5, at=(2,))
KINDS = ["a.mp4", "a.webm", "a.gif", "frames"]
SETTINGS = {
    "prompt": "Der Föhn, \"laut\" 'leise' \\ 你好 🎬\nzweite Zeile\ttab\0null = ; # [x]",
    "seed": 2**63 - 1,
    "frame_rate": "24000/1001",
    "guidance": {"scale": 5.0, "steps": [1, 2, None, True]},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        {"prompt": "word " * 10_000},
        {"prompt": "ö你" * 40_000},
        {"prompt": "half \ud800 surrogate"},
        {"seed": 1},
    ],
    ids=["odd", "long", "long-utf8", "surrogate", "short"],
)
def test_settings_survive(tmp_path: Path, name: str, settings: dict[str, object]) -> None:
    path = save_clip(replace(CLIP, metadata=settings), tmp_path / name)
    assert read_metadata(path) == settings
    if name != "a.gif":
        assert read_clip(path).metadata == settings


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_the_title_is_the_prompt_cut_short(tmp_path: Path, name: str) -> None:
    path = save_clip(replace(CLIP, metadata={"prompt": "A  long\nprompt " + "x" * 200}), tmp_path / name)
    with av.open(str(path)) as container:
        title = container.metadata["title"]
    assert title.startswith("A long prompt xxx")
    assert len(title) == 100
    assert title.endswith("…")


def test_the_folder_says_what_it_holds(tmp_path: Path) -> None:
    text = (save_clip(replace(CLIP, metadata={"prompt": "é"}), tmp_path / "frames") / "metadata.json").read_text(
        "utf-8"
    )
    for part in ('"frame_rate": "24"', '"num_frames": 5', '"height": 16', '"sampling_rate": 48000', '"prompt": "é"'):
        assert part in text


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_without_settings_carries_none(tmp_path: Path, name: str) -> None:
    path = save_clip(CLIP, tmp_path / name)
    with pytest.raises(MediaError, match="carries no settings"):
        read_metadata(path)
    assert read_clip(path).metadata == {}


def test_foreign_and_broken_files(tmp_path: Path) -> None:
    foreign = write_frames_at(tmp_path / "film.mp4", coloured_frames(1), [0 * CLIP.frame_rate])
    with pytest.raises(MediaError, match=r"film\.mp4 carries no settings"):
        read_metadata(foreign)
    with pytest.raises(InputError, match=r"no file at .*gone\.mp4"):
        read_metadata(tmp_path / "gone.mp4")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(MediaError, match=r"broken\.png cannot be read"):
        read_metadata(tmp_path / "broken.png")
    with pytest.raises(MediaError, match="carries no settings"):
        read_metadata(tmp_path)
    (tmp_path / "metadata.json").write_text("{")
    with pytest.raises(MediaError, match=r"metadata\.json is damaged"):
        read_metadata(tmp_path)


def test_the_first_png_of_a_folder_carries_them_too(tmp_path: Path) -> None:
    path = save_clip(replace(CLIP, metadata=SETTINGS), tmp_path / "frames")
    assert read_metadata(path / "00000.png") == SETTINGS
    with Image.open(path / "00001.png") as second:
        assert "Comment" not in second.info


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, Path("x")])
def test_values_json_has_no_word_for_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match="plain JSON values"):
        save_clip(replace(CLIP, metadata={"x": value}), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
