"""`phonofilm data cache --ray`: what the cache lacks is encoded by workers on Ray; the folder is the same as without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phonofilm.data.cache import Built, CacheProgress, plan_cache, write_around
from phonofilm.data.encoders import encoders_of
from phonofilm.data.sets import Weighted
from phonofilm.errors import PhonofilmError
from phonofilm.generation.placement.devices import choose_device
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.batches.cache_maker import CACHE_MAKER, cache_requests
from phonofilm.serving.batches.own_jobs import NewWorkers, OwnWork, do_jobs
from phonofilm.serving.cluster.ray_cluster import ClusterSettings
from phonofilm.serving.cluster.ray_workers import RayWorkers
from phonofilm.serving.jobs.job import COMPLETED, Job


def update_cache_on_ray(
    folder: Path,
    entries: Sequence[Weighted],
    model: str,
    cluster: ClusterSettings,
    device: str,
    progress: CacheProgress,
    new_workers: NewWorkers = RayWorkers,
) -> Built:
    """Bring the cache to exactly these windows, as `update_cache` does; none of the model's networks is loaded here.

    `progress(done, total)` counts jobs of a few items.

    Raises InputError as `update_cache` does, and PhonofilmError when something could not be encoded: what was is kept.
    """
    encoders = encoders_of(model, choose_device("cpu"))
    planned = plan_cache(entries, model, encoders)
    requests = cache_requests(planned, folder)
    ended: list[Job] = []

    def on_end(number: int, job: Job) -> None:
        ended.append(job)
        progress(len(ended), len(requests))

    if requests:
        do_jobs(OwnWork(CACHE_MAKER, cluster, HardwareOptions(device=device)), requests, on_end, new_workers)
    failures = [str(job.error_message) for job in ended if job.status != COMPLETED]
    if failures:
        listed = "\n  ".join(failures)
        raise PhonofilmError(f"{len(failures)} parts of the cache failed; run it again to go on:\n  {listed}")
    _, removed = write_around(folder, planned.index, encoders)
    windows, texts = (sum(job.made[kind] for job in ended) for kind in ("windows", "texts"))
    return planned.built(windows, texts, removed)
