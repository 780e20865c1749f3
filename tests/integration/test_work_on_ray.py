"""`generate --prompts --ray` and `data cache --ray`: the same files as without Ray, made by the workers of a server."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.conftest import GOLDENS
from tests.integration.cli import CHECKPOINT, IMAGE, TINY_CLIP, generate, same
from tests.unit.test_data_cache import write_clip
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.data.cache import Built, read_index, update_cache
from phonofilm.data.encoders import encoders_of
from phonofilm.data.sets import Source, gather
from phonofilm.data.windows import Bucket, WindowPlan
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.devices import choose_device
from phonofilm.generation.report import Event, Message
from phonofilm.generation.run import RunOptions
from phonofilm.serving.batches.cache_on_ray import update_cache_on_ray
from phonofilm.serving.batches.prompts_on_ray import run_on_ray
from phonofilm.serving.cluster.ray_cluster import ClusterSettings
from phonofilm.serving.database.engines import Database
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.worker.loop import Worker

CLUSTER = ClusterSettings("local", None)
PLAN = WindowPlan((Bucket(16, 16, 5),))


class WorkerInThisProcess:
    """Stands for Ray: the worker that an actor would run, from the same words, in a thread."""

    fault: str | None = None

    def __init__(
        self,
        settings: WorkerSettings,
        database: Database,
        cluster: ClusterSettings,
        on_hopeless: Callable[[], None],
        maker: str,
    ) -> None:
        module, _, name = maker.partition(":")
        content = json.loads(json.dumps(settings.to_json()))
        parsed = WorkerSettings.from_json(content)
        self.worker = Worker(parsed, getattr(importlib.import_module(module), name)(parsed))
        self.on_hopeless = on_hopeless
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        try:
            self.worker.run()
        except PhonofilmError as error:
            self.fault = str(error)
            self.on_hopeless()

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.worker.stop.set()
        if self.thread.ident is not None:
            self.thread.join()


class WorkerWithoutHope(WorkerInThisProcess):
    """One whose machine lacks what it needs."""

    def _work(self) -> None:
        self.fault = "no CUDA here"
        self.on_hopeless()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PHONOFILM_DATABASE_URL", raising=False)
    shutil.copy(IMAGE, "first.png")


def write_prompts() -> None:
    lines = [
        {"prompt": "a bell", "image": "first.png", "output": "bell.mp4", "seed": 4},
        {"prompt": "rain", "num_frames": 9, "num_clips": 2},
        {"prompt": "snow", "image": "missing.png"},
        {"prompt": "a lamp", "output_type": "latent"},
    ]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_lines_become_jobs_whose_clips_are_those_of_one_process() -> None:
    write_prompts()
    assert generate("--prompts", "p.jsonl", "-o", "alone", *TINY_CLIP).exit_code == 1
    common = ClipOptions(size="32x32", num_frames=5, steps=2, seed=1, output=Path("shared"))
    options = RunOptions(common, model=os.path.relpath(CHECKPOINT), prompts=Path("p.jsonl"))
    said: list[Event] = []
    before = Path.cwd()

    def run() -> list[Path]:
        return run_on_ray(options, CLUSTER, lambda: nullcontext(said.append), WorkerInThisProcess)

    with pytest.raises(PhonofilmError, match=r"1 of 5 clips failed.*\n  p.jsonl line 3: image: no file"):
        run()
    files, others = (sorted(path.name for path in Path(folder).iterdir()) for folder in ("shared", "alone"))
    assert files == others == ["0002-0.mp4", "0002-1.mp4", "0004.safetensors", "bell.mp4"]
    assert all(same(f"alone/{name}", f"shared/{name}") for name in files if name.endswith("mp4"))
    Path("shared/0002-1.mp4").unlink()
    lines = Path("p.jsonl").read_text().splitlines()
    Path("p.jsonl").write_text("\n".join("" if "snow" in line else line for line in lines))
    assert run() == [Path("shared/0002-1.mp4")]
    texts = [event.text for event in said if isinstance(event, Message)]
    assert any(text.startswith("p.jsonl line 1 is there already (") for text in texts)
    assert Path.cwd() == before


def test_what_the_command_would_refuse_is_refused_before_ray_is_started() -> None:
    write_prompts()
    for options, message in (
        (RunOptions(ClipOptions(prompt="a ball")), "add --prompts FILE"),
        (RunOptions(ClipOptions(prompt="a ball"), prompts=Path("p.jsonl")), "give one"),
    ):
        with pytest.raises(InputError, match=message):
            run_on_ray(options, CLUSTER, lambda: nullcontext(print), WorkerWithoutHope)
    alone = CliRunner().invoke(app, ["generate", "a ball", "--ray"])
    assert (alone.exit_code, "--ray shares the lines of a file" in alone.stderr) == (2, True)
    alone = CliRunner().invoke(app, ["data", "cache", "clips", "-o", "cache", "--replicas", "2"])
    assert (alone.exit_code, "--replicas is for workers on Ray" in alone.stderr) == (2, True)


def test_a_cluster_where_no_worker_can_work_ends_the_command_with_the_reason() -> None:
    Path("p.txt").write_text("a bell\n")
    options = RunOptions(ClipOptions(), model=str(CHECKPOINT), prompts=Path("p.txt"))
    with pytest.raises(PhonofilmError, match="no worker can do this: no CUDA here"):
        run_on_ray(options, CLUSTER, lambda: nullcontext(print), WorkerWithoutHope)


def test_a_cache_is_encoded_by_jobs_as_it_is_in_one_process() -> None:
    for number, caption in enumerate(("a ball", "a lamp", "a ball")):
        write_clip(Path("clips") / f"{number}.mp4", number, caption, silent=number == 2)
    model = os.path.relpath(GOLDENS / "basic" / "checkpoint")
    entries = gather([Source(Path("clips"))], PLAN)
    update_cache(Path("alone"), entries, model, encoders_of(model, choose_device("cpu")))
    counted: list[tuple[int, int]] = []

    def update() -> Built:
        progress = lambda done, total: counted.append((done, total))  # noqa: E731
        return update_cache_on_ray(Path("shared"), entries, model, CLUSTER, "cpu", progress, WorkerInThisProcess)

    assert update() == Built(latents_made=3, text_made=3)
    assert counted == [(1, 3), (2, 3), (3, 3)]  # windows, a white frame, captions
    files = [{path.relative_to(folder) for path in Path(folder).rglob("*.*")} for folder in ("alone", "shared")]
    assert files[0] == files[1]
    assert all((Path("alone") / one).read_bytes() == (Path("shared") / one).read_bytes() for one in files[0])
    assert update() == Built(latents_kept=3, text_kept=3)
    gone = Path("shared/latents") / f"{read_index(Path('shared')).entries[0].latents}.safetensors"
    gone.unlink()
    assert update() == Built(latents_made=1, latents_kept=2, text_kept=3)
    assert gone.read_bytes() == (Path("alone/latents") / gone.name).read_bytes()


@pytest.mark.slow
def test_ray_makes_the_clips_of_a_file_of_prompts() -> None:
    pytest.importorskip("ray")
    write_prompts()
    generate("--prompts", "p.jsonl", "-o", "alone", *TINY_CLIP)
    done = generate("--prompts", "p.jsonl", "-o", "shared", *TINY_CLIP, "--ray", "--replicas", "2")
    assert done.exit_code == 1
    assert "1 of 5 clips failed" in done.stderr
    files, others = (sorted(path.name for path in Path(folder).iterdir()) for folder in ("shared", "alone"))
    assert files == others
    assert same("alone/bell.mp4", "shared/bell.mp4")


@pytest.mark.slow
def test_ray_encodes_a_cache() -> None:
    pytest.importorskip("ray")
    for number in range(20):
        write_clip(Path("clips") / f"{number}.mp4", number, f"a ball {number}")
    words = ["data", "cache", "clips", "--model", str(CHECKPOINT), "--bucket", "16x16x5"]
    done = CliRunner().invoke(app, [*words, "-o", "shared", "--ray", "--replicas", "2"])
    assert done.exit_code == 0, done.output
    assert "latents: 20 made, 0 kept; text: 21 made" in done.stdout
    again = CliRunner().invoke(app, [*words, "-o", "shared"])
    assert "latents: 0 made, 20 kept; text: 0 made" in again.stdout
