"""Ray as the command line asks for it, and what is done with or without it. Imports nothing of the extras on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.serving.work_options import require_serve_extra

if TYPE_CHECKING:
    from phonofilm.data.cache import Built, CacheProgress
    from phonofilm.data.sets import Weighted
    from phonofilm.generation.report import OnProgress
    from phonofilm.generation.run import RunOptions
    from phonofilm.serving.cluster.ray_cluster import ClusterSettings


@dataclass(frozen=True)
class RayOptions:
    """ray: the address of a cluster, or "local". replicas: how many workers, as "2" or "1:8"."""

    ray: str | None = None
    replicas: str | None = None

    def cluster_of_server(self) -> ClusterSettings | None:
        """The cluster of a server, with one worker where nothing else is asked; None without `ray`. Raises InputError."""
        if self.ray is None:
            if self.replicas is not None:
                raise InputError("--replicas is for workers on Ray; add --ray, or --ray with the address of a cluster")
            return None
        from phonofilm.serving.cluster.ray_cluster import ClusterSettings
        from phonofilm.serving.cluster.replicas import parse_replicas

        return ClusterSettings(self.ray, parse_replicas(self.replicas or "1"))

    def cluster(self, many: bool = True) -> ClusterSettings | None:
        """The cluster of a command that ends with its work, with as many workers as fit; None without `ray`.

        `many`: whether there is something to share. Raises InputError, and MissingExtraError where Ray cannot be used.
        """
        if self.ray is not None:
            if not many:
                raise InputError("--ray shares the lines of a file among workers; add --prompts FILE")
            require_serve_extra()
            if find_spec("ray") is None:
                raise MissingExtraError("ray", "cluster")
        found = self.cluster_of_server()
        if found is None:
            return None
        return replace(found, replicas=found.replicas if self.replicas else None, shows_logs=False)


def with_ray_spelled_out(words: Sequence[str]) -> list[str]:
    """A command's words with a --ray that stands alone as --ray=local, which Typer has no words for."""
    return [
        f"{word}=local" if word == "--ray" and (after is None or after.startswith("-")) else word
        for word, after in zip_longest(words, words[1:])
        if word is not None
    ]


def run_on(
    cluster: ClusterSettings, options: RunOptions, open_display: Callable[[], AbstractContextManager[OnProgress]]
) -> list[Path]:
    """The clips of `phonofilm generate`, made by workers on Ray."""
    from phonofilm.serving.batches.prompts_on_ray import run_on_ray

    return run_on_ray(options, cluster, open_display)


def update_cache_on(
    cluster: ClusterSettings | None,
    folder: Path,
    entries: Sequence[Weighted],
    model: str,
    device: str,
    progress: CacheProgress,
) -> Built:
    """The cache of `phonofilm data cache`, encoded by workers on Ray or, without a cluster, here."""
    if cluster is None:
        from phonofilm.data.cache import update_cache
        from phonofilm.data.encoders import encoders_of
        from phonofilm.generation.placement.devices import choose_device

        return update_cache(folder, entries, model, encoders_of(model, choose_device(device)), progress)
    from phonofilm.serving.batches.cache_on_ray import update_cache_on_ray

    return update_cache_on_ray(folder, entries, model, cluster, device, progress)
