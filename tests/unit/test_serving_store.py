"""Files of jobs in a folder and in a bucket: the same behaviour, whole files, and nothing outside. S3 itself: slow tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from phonofilm.serving.store.bucket import BucketStore
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.store.interface import CHUNK_BYTES, NotStored, Store, StoreError

NAME, COPY = "outputs/video_1/1-0-video.mp4", "outputs/video_2/1-0-video.mp4"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "files")
    return BucketStore(pytest.importorskip("obstore.store").MemoryStore())


def test_what_is_put_can_be_read_in_part_copied_listed_and_removed(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 128)  # two pieces
    (tmp_path / "clip").write_bytes(content)
    store.put(NAME, tmp_path / "clip")
    assert store.size(NAME) == len(content)
    assert b"".join(store.read(NAME, 0, len(content))) == content
    assert b"".join(store.read(NAME, 250, 10)) == content[250:260]
    assert b"".join(store.read(NAME, len(content) - 5, 1000)) == content[-5:]
    assert max(len(piece) for piece in store.read(NAME, 0, len(content))) <= CHUNK_BYTES
    with store.as_file(NAME) as file:
        assert (file.suffix, file.read_bytes()) == (".mp4", content)
    store.copy(NAME, COPY)
    assert sorted(name for name, _ in store.folders("outputs")) == ["video_1", "video_2"]
    assert (store.folders("inputs"), store.files("outputs", "video_2")) == ([], [COPY])
    store.delete(NAME)
    store.delete(NAME)  # nothing is there, and nothing happens
    assert store.files("outputs", "video_1") == []
    assert b"".join(store.read(COPY, 0, 10)) == content[:10]


def test_all_that_is_there_of_a_job_is_cleared(store: Store, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"x")
    for name in (NAME, NAME.replace("video.mp4", "thumbnail.webp"), COPY):
        store.put(name, tmp_path / "clip")
    store.clear("outputs", "video_1")
    store.clear("outputs", "video_1")
    assert [name for name, _ in store.folders("outputs")] == ["video_2"]


def test_what_is_not_there_or_no_name_of_a_file_is_an_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"x")
    for missing in (store.size, lambda name: b"".join(store.read(name, 0, 1)), lambda name: store.copy(name, COPY)):
        with pytest.raises(NotStored):
            missing(NAME)
    with pytest.raises(NotStored), store.as_file(NAME):
        pass
    for name in ("outputs/../secret/1.mp4", "/etc/passwd", "outputs/video_1/..", "elsewhere/video_1/a.mp4", ""):
        for use in (store.size, store.delete, lambda name: store.put(name, tmp_path / "clip")):
            with pytest.raises(StoreError, match="no name"):
                use(name)
