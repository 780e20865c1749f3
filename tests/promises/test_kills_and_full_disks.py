"""Twenty kills in a clip and in a batch, two writers at once, a disk that fills up: nothing lost, doubled or half-written."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from tests.integration.cli import CHECKPOINT, generate
from tests.promises.process_runs import start

from phonofilm.files import TEMPORARY_PREFIX
from phonofilm.generation.finished import finished_metadata
from phonofilm.generation.outputs import Output

pytestmark = pytest.mark.slow

KILLS, LINES, FRAMES = 20, 12, 9
SIZES = ("--size", "32x32", "--num-frames", str(FRAMES), "--steps", "4", "--seed", "1", "-m", str(CHECKPOINT))
ONE = ("generate", "a man speaks", *SIZES)
KINDS = {"mp4": "a.mp4", "webm": "a.webm", "gif": "a.gif", "frames": "a", "latent": "a.safetensors"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a run needs is imported here once, so that the forks begin at once."""
    done = generate("a man speaks", *SIZES[:-2], "-o", tmp_path_factory.mktemp("first") / "a.mp4")
    assert done.exit_code == 0, done.output


def leftovers() -> list[str]:
    return [path.name for path in Path().rglob(f"{TEMPORARY_PREFIX}*")]


def is_whole(path: Path, kind: str) -> bool:
    return finished_metadata(Output(path, kind), FRAMES) is not None


def seconds_of(*arguments: str | Path) -> float:
    begun = time.monotonic()
    code, text = start(*arguments).wait()
    assert code == 0, text
    return time.monotonic() - begun


@pytest.mark.parametrize("kind", ["mp4", "frames"])
def test_twenty_kills_in_a_clip(kind: str) -> None:
    seconds = seconds_of(*ONE, "-o", "first" + (".mp4" if kind == "mp4" else ""))
    killed = 0
    for number in range(KILLS):
        target = Path(f"{number}" + (".mp4" if kind == "mp4" else ""))
        # most of them late, when something is being written
        code, _ = start(*ONE, "-o", target).kill_after(seconds * (0.3 + 0.8 * number / KILLS), signal.SIGKILL)
        killed += code == -signal.SIGKILL
        assert not target.exists() or is_whole(target, kind)
    assert killed >= KILLS / 4
    code, text = start(*ONE, "-o", f"last.{kind}" if kind == "mp4" else "last").wait()
    assert code == 0, text
    assert leftovers() == []


def test_twenty_kills_in_a_batch() -> None:
    lines = [{"prompt": f"man {number}", "output": f"{number:02d}.mp4"} for number in range(LINES)]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    order = ("generate", "--prompts", "p.jsonl", "-o", "out", *SIZES)
    one = seconds_of(*ONE, "-o", "first.mp4")
    made: dict[str, int] = {}
    for number in range(KILLS):
        start(*order).kill_after(one * (0.5 + 0.15 * number), signal.SIGKILL)
        found = (
            {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.mp4")} if Path("out").exists() else {}
        )
        assert all(is_whole(Path("out") / name, "mp4") for name in found.keys() - made.keys())
        assert {name: time for name, time in found.items() if name in made} == made  # none lost, none made twice
        made = found
    code, text = start(*order).wait()
    assert code == 0, text
    assert sorted(path.name for path in Path("out").iterdir()) == [f"{number:02d}.mp4" for number in range(LINES)]
    assert all(Path("out", name).stat().st_mtime_ns == when for name, when in made.items())
    assert text.count("is there already") == len(made)


@pytest.mark.parametrize("kind", KINDS)
def test_two_writers_of_one_clip_leave_one_whole_clip(kind: str) -> None:
    runs = [start(*ONE, "-o", KINDS[kind]) for _ in range(2)]
    ends = [run.wait() for run in runs]
    ((code, text),) = [end for end in ends if end[0] != 0]
    assert code == 2, text
    assert any(words in text.splitlines()[-1] for words in ("is being made by process", "exists already")), text
    assert "step 1/" not in text  # refused before the first step, and not after the last
    assert [path.name for path in Path().iterdir()] == [KINDS[kind]]
    assert is_whole(Path(KINDS[kind]), kind)


def test_two_batches_in_one_folder_leave_every_clip_whole() -> None:
    Path("p.txt").write_text("a bell\nrain\nwind\n")
    order = ("generate", "--prompts", "p.txt", "-o", "out", *SIZES)
    ends = [run.wait() for run in [start(*order) for _ in range(2)]]
    assert all("Traceback" not in text for _, text in ends), ends
    assert sorted(path.name for path in Path("out").iterdir()) == ["0001.mp4", "0002.mp4", "0003.mp4"]
    assert all(is_whole(path, "mp4") for path in Path("out").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_leaves_nothing(kind: str) -> None:
    assert start(*ONE, "-o", f"whole-{KINDS[kind]}").wait()[0] == 0
    whole = Path(f"whole-{KINDS[kind]}")
    largest = max(path.stat().st_size for path in ([whole] if whole.is_file() else whole.iterdir()))
    for limit in (0, 1, 100, largest // 4, largest // 2, largest - 1):
        code, text = start(*ONE, "-o", KINDS[kind], largest_file=limit).wait()
        assert code == 1, (limit, text)
        assert "Traceback" not in text
        assert text.splitlines()[-1].startswith("error: "), text
        assert [path.name for path in Path().iterdir()] == [whole.name], limit
    assert is_whole(whole, kind)
    code, text = start(*ONE, "-o", whole, "--overwrite", largest_file=largest // 2).wait()
    assert (code, is_whole(whole, kind)) == (1, True), text
