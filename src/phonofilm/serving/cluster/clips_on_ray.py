"""Measuring clips on a Ray cluster: each clip is a task, and its rows come back to the one report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.evaluation.clip_list import ClipEntry
from phonofilm.evaluation.measuring import (
    BYTES_PER_PROCESS,
    ClipMeasurer,
    MeasuringPlan,
    Rows,
    Sharing,
    measure_in_one_thread,
    measure_on_this_machine,
)
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.rows import Row
from phonofilm.units import format_size

TRIES_AGAIN = 1  # where the process or the machine that measured a clip is lost


@contextmanager
def sharing_of(address: str | None) -> Iterator[Sharing]:
    """How the clips of a plan are shared: without an address by processes of this machine, else by a cluster's machines.

    address: as of `ray_session`, connected as long as the block lasts. Every machine sees clips, weights and the report's
    folder under the same paths, and has phonofilm installed. Raises MissingExtraError, and InputError for no cluster.
    """
    if address is None:
        yield measure_on_this_machine
        return
    try:
        from phonofilm.serving.cluster.ray_cluster import ray_session
    except ImportError as error:
        raise MissingExtraError(error.name or "sqlalchemy", "serve") from error
    with ray_session(address) as ray:
        yield partial(_measured, ray)


def _measured(ray: Any, plan: MeasuringPlan) -> Iterator[tuple[ClipEntry, Rows]]:
    """As clips are done, `plan.jobs` at once, or as many as the cluster has room for."""
    needs = _needs(ray, plan.setup)
    task = ray.remote(max_retries=TRIES_AGAIN, **needs)(_measure)
    order = (plan.metrics, _for_other_folders(plan.setup), plan.rows.absolute())
    waiting = list(reversed(plan.clips))
    running: dict[Any, ClipEntry] = {}
    while waiting or running:
        while waiting and len(running) < (plan.jobs or len(plan.clips)):
            clip = waiting.pop()
            running[task.remote(*order, replace(clip, path=clip.path.absolute()))] = clip
        (done, *_), _ = ray.wait(list(running))
        clip = running.pop(done)
        try:
            yield clip, ray.get(done)
        except ray.exceptions.RayError as error:
            reason = f"the process on Ray that measured it failed: {str(error).strip().splitlines()[-1][:300]}"
            yield clip, {name: Row("failed", reason=reason) for name in plan.metrics}


def _needs(ray: Any, setup: Setup) -> dict[str, float]:
    """What a task takes of a machine. Raises InputError where none has it, and for a GPU by number, which is Ray's to choose."""
    device, _, number = setup.device.partition(":")
    if device == "cuda" and number not in ("", "0"):  # "auto" is the first one
        raise InputError(f"--device {setup.device}: Ray chooses each clip's GPU; use --device cuda")
    gpus = 1 if device == "cuda" else 0
    needs: dict[str, float] = {"num_cpus": 1, "num_gpus": gpus, "memory": BYTES_PER_PROCESS}
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    if not any(all(one.get(names[name], 0) >= amount for name, amount in needs.items()) for one in there):
        gpu = ", a GPU" if gpus else ""
        raise InputError(
            f"no machine of the Ray cluster has a CPU{gpu} and {format_size(BYTES_PER_PROCESS)} of memory for a clip"
        )
    return needs


def _for_other_folders(setup: Setup) -> Setup:
    """The setup with whole paths: a task runs in another folder."""
    weights = None if setup.weights is None else setup.weights.absolute()
    asr = str(Path(setup.asr).absolute()) if setup.asr and Path(setup.asr).is_dir() else setup.asr
    return replace(setup, weights=weights, asr=asr)


def _measure(metrics: tuple[str, ...], setup: Setup, rows: Path, clip: ClipEntry) -> dict[str, Row]:
    return _measurer(metrics, setup, rows).measure(clip)


@lru_cache(maxsize=1)
def _measurer(metrics: tuple[str, ...], setup: Setup, rows: Path) -> ClipMeasurer:
    """Built once in each of Ray's processes, which measure one clip after another."""
    measure_in_one_thread()
    return ClipMeasurer(metrics, setup, rows)
