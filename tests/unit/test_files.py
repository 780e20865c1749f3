"""Files written whole or not at all, what killed processes leave behind, and hashes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from phonofilm.errors import CheckpointError, InputError
from phonofilm.files import file_hash, replacing, sweep

KILLED = """
import sys, time
from pathlib import Path
from phonofilm.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
# Killed between moving the old folder aside and giving its name to the new one.
KILLED_WHILE_RENAMING = """
import os, signal, sys
from pathlib import Path
from phonofilm.files import replacing
rename = os.rename
def kill(source, target):
    if str(source).endswith(".part"):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.rename = kill
with replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "new").touch()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a.txt")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with replacing(tmp_path / "b.txt") as temporary:  # while the other one writes
        temporary.write_text("whole")
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_the_first_write_into_a_folder_sweeps_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_RENAMING, str(tmp_path / "x")], check=False)
    assert done.returncode == 0
    assert os.listdir(tmp_path) == ["x"]  # nothing stood in its place, so nothing was moved aside
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_RENAMING, str(tmp_path / "x")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert "x" not in os.listdir(tmp_path)
    with replacing(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == ["b.txt", "x"]
    assert (tmp_path / "x" / "new").exists()


def test_what_another_host_or_someone_else_writes_is_left_alone(tmp_path: Path) -> None:
    names = [".phonofilm-00000000-999999999-0123456789ab.part", ".phonofilm-notes", "a.part"]
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with replacing(target, error=CheckpointError) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left")

    with pytest.raises(CheckpointError, match=r"cannot write .*a\.txt: No space left; nothing was kept"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_a_suffix_is_kept_when_asked_for(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.safetensors", keep_suffix=True) as temporary:
        assert temporary.suffix == ".safetensors"
        temporary.touch()


def test_all_files_of_a_folder_are_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    with replacing(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "a").touch()
    assert {str(temporary), str(temporary / "deep"), str(temporary / "deep" / "a")} <= set(synced)


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 9)
    read: list[int] = []
    assert file_hash(tmp_path / "a", read.append) == hashlib.sha256(b"x" * 9).hexdigest()
    assert read == [9]
    one = file_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_hash(tmp_path) != one
    with pytest.raises(InputError, match="cannot be read"):
        file_hash(tmp_path / "a")


def test_a_link_to_a_folder_is_replaced_and_the_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
    assert not (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "mine.txt", "new.txt", "real"]
