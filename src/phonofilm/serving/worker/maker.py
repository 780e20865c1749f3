"""Who makes a job's clips: the models in this process, or another engine. The loop knows no more of it than this."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.store.interface import Store, StoreError
from phonofilm.serving.worker.held_job import HeldJob


class JobMaker(Protocol):
    """Makes the clips of jobs, one job at a time."""

    @property
    def loaded(self) -> list[str]:
        """The models whose jobs can begin at once."""

    def open(self) -> dict[str, dict[str, Any]]:
        """Get ready; the facts of the models that are known by now. Raises PhonofilmError when it can never work."""

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        """Make the job's clips and store them under names that hold the attempt; `held.keep` each one that is finished.

        Raises InputError for what cannot be made, Cancelled when `held` says so, StoreError.
        """

    def close(self) -> None:
        """Let go of everything."""


def discard(store: Store, outputs: Sequence[dict[str, str]]) -> None:
    """Remove files that were made for a job which is another worker's by now; what cannot be removed is swept later."""
    with suppress(StoreError):
        for names in outputs:
            for name in names.values():
                store.delete(name)
