"""Promise 5: a clip that a batch says is there already has been checked whole, both tracks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from tests.integration.cli import generate

SIZES = ("--size", "32x32", "--num-frames", "9", "--steps", "1", "--seed", "1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("a man speaks\n")


def run(kind: str) -> str:
    done = generate("--prompts", "p.txt", "--output-type", kind, *SIZES, "--overwrite")
    assert done.exit_code == 0, done.output
    return done.stderr


def without_sound(path: Path) -> None:
    with av.open(str(path)) as source, av.open("silent" + path.suffix, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata.update(source.metadata)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    shutil.move("silent" + path.suffix, path)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def emptied(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(b"") and None


def removed(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def garbage(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: len(data) // 2])

    return spoil


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("mp4", without_sound),
        ("mp4", cut_off),
        ("webm", without_sound),
        ("latent", cut_off),
        ("frames", removed("audio.wav")),
        ("frames", emptied("audio.wav")),
        ("frames", garbage("audio.wav")),
        ("frames", emptied("00003.png")),
        ("frames", garbage("00003.png")),
        ("frames", removed("00003.png")),
        ("frames", removed("metadata.json")),
    ],
)
def test_a_clip_that_is_not_whole_is_made_again(kind: str, spoil: Callable[[Path], None]) -> None:
    run(kind)
    (clip,) = Path("p").iterdir()
    assert "is there already" in run(kind)
    spoil(clip)
    assert "is there already" not in run(kind)
    assert "is there already" in run(kind)
