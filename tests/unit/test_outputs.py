"""Where clips go: kinds, names, and what cannot be written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from phonofilm.errors import InputError
from phonofilm.generation.outputs import choose_outputs


@pytest.mark.parametrize(
    ("name", "kind", "path", "chosen"),
    [
        ("a.mp4", None, "a.mp4", "mp4"),
        ("a.WEBM", None, "a.WEBM", "webm"),
        ("a", None, "a", "frames"),
        ("a", "gif", "a.gif", "gif"),
        ("a.safetensors", None, "a.safetensors", "latent"),
        ("a", "frames", "a", "frames"),
        ("new/sub/a.mp4", "mp4", "new/sub/a.mp4", "mp4"),
    ],
)
def test_name_and_type_decide_what_is_written(
    tmp_path: Path, name: str, kind: str | None, path: str, chosen: str
) -> None:
    (target,) = choose_outputs(tmp_path / name, kind, 1, overwrite=False)
    assert (target.path, target.kind) == (tmp_path / path, chosen)


def test_without_a_name_the_clip_is_called_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_outputs(None, None, 1, overwrite=False)[0].path == Path("clip.mp4")
    assert choose_outputs(None, "latent", 1, overwrite=False)[0].path == Path("clip.safetensors")


def test_several_clips_and_their_sheets_are_numbered_from_0(tmp_path: Path) -> None:
    targets = choose_outputs(tmp_path / "a.mp4", None, 2, overwrite=False, contact_sheet=tmp_path / "s.png")
    assert [t.path.name for t in targets] == ["a-0.mp4", "a-1.mp4"]
    assert [t.contact_sheet.name for t in targets if t.contact_sheet] == ["s-0.png", "s-1.png"]


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("a.avi", None, "unknown kind .avi"),
        ("a.mp4", "webm", "does not fit output type webm; use .*a.webm"),
        ("a.mp4", "movie", "output type 'movie' is unknown; use one of mp4"),
        ("file/a.mp4", None, "cannot write .*Not a directory"),
        ("there.mp4", None, "exists already"),
        (".mp4", None, "is no name for a file"),
        ("-", None, "is no name for a file"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, kind: str | None, complaint: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there.mp4").touch()
    with pytest.raises(InputError, match=complaint):
        choose_outputs(tmp_path / name, kind, 1, overwrite=False)


def test_what_exists_is_replaced_when_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "there.mp4").touch()
    assert choose_outputs(tmp_path / "there.mp4", None, 1, overwrite=True)


def test_a_folder_without_permission_is_refused_before_anything_runs(tmp_path: Path) -> None:
    locked = Path("/proc/phonofilm")  # nobody can create files there, whoever runs the test
    with pytest.raises(InputError, match="cannot write /proc/phonofilm"):
        choose_outputs(locked / "a.mp4", None, 1, overwrite=False)


def test_a_full_disk_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A really full disk, by hand: a tmpfs of 256 kB made a clip through all its steps, and kept nothing of it."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=40_000))
    with pytest.raises(InputError, match=r"a\.mp4: its disk is full \(40\.0 kB free\); make room"):
        choose_outputs(tmp_path / "a.mp4", None, 1, overwrite=False)


def test_latents_have_no_contact_sheet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contact sheet"):
        choose_outputs(tmp_path / "a", "latent", 1, overwrite=False, contact_sheet=tmp_path / "s.png")
