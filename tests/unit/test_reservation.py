"""Two processes do not make one output: the second learns it before its first step (promise 2)."""

from __future__ import annotations

import json
import resource
import signal
import socket
from pathlib import Path
from typing import cast

import psutil
import pytest
from tests.integration.cli import TINY, generate

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.outputs import choose_outputs
from phonofilm.generation.reservation import reserved
from phonofilm.parallel.parallel_session import ParallelSession


def lock(file: Path, pid: int, started: float, host: str = "") -> Path:
    """The lock of another process that makes `file`."""
    path = file.with_name(f".phonofilm-{file.name}.lock")
    path.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": started}))
    return path


def of_a_running_process(file: Path) -> Path:
    parent = psutil.Process().parent()
    assert parent is not None
    return lock(file, parent.pid, parent.create_time())


def test_a_clip_that_another_process_makes_is_refused_before_the_first_step(tmp_path: Path) -> None:
    held = of_a_running_process(tmp_path / "a.mp4")
    done = generate(*TINY, "-o", tmp_path / "a.mp4")
    assert done.exit_code == 2
    assert f"a.mp4 is being made by process {psutil.Process().ppid()} on" in done.stderr.splitlines()[-1]
    assert "step 1/" not in done.stderr
    assert list(tmp_path.iterdir()) == [held]


@pytest.mark.parametrize("overwrite", [False, True])
def test_neither_clip_nor_contact_sheet_is_shared(tmp_path: Path, overwrite: bool) -> None:
    of_a_running_process(tmp_path / "sheet.png")
    files = [tmp_path / "a.mp4", tmp_path / "sheet.png"]
    with pytest.raises(InputError, match=r"sheet\.png is being made by"), reserved(files, overwrite, None):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".phonofilm-sheet.png.lock"]


def test_a_default_name_that_another_process_makes_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    of_a_running_process(Path("clip.mp4"))
    assert choose_outputs(None, None, 1, overwrite=False)[0].path == Path("clip-2.mp4")


def test_an_output_that_was_made_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"made")
    with pytest.raises(InputError, match="exists already"), reserved([tmp_path / "a.mp4"], False, None):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_a_killed_process_held_is_free_and_swept(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        lock(tmp_path / name, 2**22 + 1, 0.0)
    elsewhere = lock(tmp_path / "c.mp4", 1, 0.0, host="elsewhere")
    with reserved([tmp_path / "a.mp4"], False, None):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".phonofilm-a.mp4.lock", elsewhere.name]
    assert list(tmp_path.iterdir()) == [elsewhere]


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no"), reserved([tmp_path / "new" / "deep" / "a.mp4"], False, None):
        raise InputError("no")
    assert not list(tmp_path.iterdir())
    with reserved([tmp_path / "new" / "a.mp4"], False, None):
        (tmp_path / "new" / "a.mp4").write_bytes(b"made")
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "a.mp4"]


class Ranks:
    """A rank as `reserved` sees it: the first says 0 when it could not hold the outputs."""

    def __init__(self, is_first: bool, said: int) -> None:
        self.is_first, self.said = is_first, said

    def agree(self, number: int) -> int:
        return number if self.is_first else self.said


def test_all_ranks_stop_where_the_first_cannot_hold_the_output(tmp_path: Path) -> None:
    of_a_running_process(tmp_path / "a.mp4")
    for ranks, words in ((Ranks(True, 0), "is being made by"), (Ranks(False, 0), "first rank")):
        held = reserved([tmp_path / "a.mp4"], False, cast(ParallelSession, ranks))
        with pytest.raises(InputError, match=words), held:
            pass
    with reserved([tmp_path / "a.mp4"], False, cast(ParallelSession, Ranks(False, 1))):
        assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_too_full_for_the_lock_keeps_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with (
            pytest.raises(PhonofilmError, match=r"cannot write .*nothing was kept"),
            reserved([tmp_path / "a"], False, None),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())
