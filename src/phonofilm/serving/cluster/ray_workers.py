"""The workers of a server on a Ray cluster: Ray gives each a place with its GPUs and starts it again; here is how many.

The table owns the jobs. What Ray loses (a process, a machine) costs a job an attempt and nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError

from phonofilm.serving.cluster.ray_cluster import (
    ClusterSettings,
    as_many_as_fit,
    check_device,
    check_reach,
    for_other_folders,
    gpus_of,
    ray_session,
)
from phonofilm.serving.cluster.ray_worker import NEW_MAKER, RayWorker
from phonofilm.serving.cluster.replicas import Scaling
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.outages import is_unreachable
from phonofilm.serving.jobs.claims import expire_leases
from phonofilm.serving.jobs.job import IN_PROGRESS, QUEUED
from phonofilm.serving.jobs.roster import remove_worker
from phonofilm.serving.jobs.sweep import counts_by_status
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.worker.silence import Silence

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 5.0
WAITING_SECONDS = 60.0


@dataclass
class _Replica:
    """An actor, its place in the cluster, and what it last said. `asked`: a question that it has not answered yet.

    silence: of its worker, by what that reports to the table; of none by name before it has said which it is.
    """

    actor: Any
    group: Any
    worker: str | None = None
    asked: Any = None
    retiring: bool = False
    silent_since: float | None = None
    silence: Silence = field(default_factory=lambda: Silence(""))


@dataclass
class RayWorkers:
    """Started and stopped as WorkerProcesses is. `on_hopeless` is called when a worker says that it can never work."""

    settings: WorkerSettings
    database: Database
    cluster: ClusterSettings
    on_hopeless: Callable[[], None]
    maker: str = NEW_MAKER
    fault: str | None = None
    replicas: list[_Replica] = field(default_factory=list)
    _wanted: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _session: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Reach the cluster and place the first workers. Raises InputError where it cannot be used."""
        check_device(self.settings.hardware.device)
        self._ray = self._session.enter_context(ray_session(self.cluster.address, self.cluster.shows_logs))
        try:
            check_reach(self._ray.nodes(), self.settings)
            resources = self._ray.cluster_resources()
            self._gpus = gpus_of(self.settings, resources)
            replicas = self.cluster.replicas or as_many_as_fit(self._gpus, resources)
        except BaseException:
            self._session.close()
            raise
        self._content = for_other_folders(self.settings).to_json()
        self._scaling, self._wanted = Scaling(replicas), replicas.least
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask all workers to stop, wait until they have, and let go of their places."""
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join()
        for replica in self.replicas:
            replica.actor.ask_to_stop.remote()
        until = time.monotonic() + self.settings.grace + 15
        for replica in self.replicas:
            while time.monotonic() < until and replica.worker is not None and not self._has_ended(replica):
                time.sleep(0.2)
            self._remove(replica)
        self._session.close()

    @property
    def are_coming(self) -> bool:
        """Whether a worker is starting, or is about to be started: the first ones, or one in another's place."""
        there = [*self.replicas]
        too_few = sum(not one.retiring for one in there) < self._wanted
        return not self._stop.is_set() and (too_few or any(one.silence.reported is None for one in there))

    @property
    def come_with_jobs(self) -> bool:
        """Whether none is wanted now, and some are as soon as a job waits."""
        return self._thread is not None and not self._stop.is_set() and self._wanted == 0

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except DBAPIError as error:  # the number of workers stays as it is
                if not is_unreachable(error):
                    logger.exception("the workers could not be looked after")
            except Exception:
                # If this thread ended, nobody would be replaced any more, and nobody would know.
                logger.exception("the workers could not be looked after")
            self._stop.wait(LOOK_SECONDS)

    def _turn(self) -> None:
        for replica in list(self.replicas):
            self._look_at(replica)
        counts = counts_by_status(self.database, list(self.settings.models))
        self._wanted = wanted = self._scaling.wanted(counts.get(QUEUED, 0) + counts.get(IN_PROGRESS, 0))
        working = [replica for replica in self.replicas if not replica.retiring]
        for _ in range(wanted - len(working)):
            self.replicas.append(self._place())
        for replica in working[wanted:]:
            logger.info("worker %s is not needed any more", replica.worker)
            replica.retiring = True
            replica.actor.retire.remote()

    def _place(self) -> _Replica:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundle: dict[str, float] = {"CPU": 1.0, **({"GPU": float(self._gpus)} if self._gpus else {})}
        group = placement_group([bundle], strategy="STRICT_PACK")
        actor = (
            self._ray.remote(RayWorker)
            .options(
                num_cpus=1,
                num_gpus=self._gpus,
                max_restarts=-1,
                scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=group),
            )
            .remote(self._content, self.maker)
        )
        return _Replica(actor, group, asked=actor.state.remote(), silent_since=time.monotonic())

    def _look_at(self, replica: _Replica) -> None:
        """Take the answer to the last question, if there is one, and ask again. One that hangs makes room for another."""
        from ray.exceptions import ActorDiedError, RayActorError

        if (fault := self._long_silence(replica)) is not None:
            logger.error("worker %s %s; another takes its place", replica.worker or "(not named yet)", fault)
            self._let_go(replica)
            return
        if not self._ray.wait([replica.asked], timeout=0)[0]:
            self._say_silent(replica)
            return
        try:
            state = self._ray.get(replica.asked, timeout=ANSWER_SECONDS)
        except ActorDiedError as error:
            logger.warning("worker %s is gone for good: %s", replica.worker, str(error).splitlines()[0])
            self._let_go(replica)
            return
        except RayActorError:  # it is being started again
            if replica.worker is not None:
                logger.warning("worker %s died; Ray starts another in its place", replica.worker)
            self._forget_worker(replica)
        else:
            replica.silent_since = None
            if state.worker != replica.worker:
                self._forget_worker(replica)
                replica.worker, replica.silence = state.worker, Silence(state.worker)
                logger.info("worker %s has a place", state.worker)
            if state.fault is not None:
                self.fault = state.fault
                self.on_hopeless()
                self._stop.set()
            elif state.ended and replica.retiring:
                self._let_go(replica)
                return
        replica.asked = replica.actor.state.remote()

    def _say_silent(self, replica: _Replica) -> None:
        now = time.monotonic()
        if replica.silent_since is None:
            replica.silent_since = now
        elif now - replica.silent_since > WAITING_SECONDS:
            replica.silent_since = now
            logger.warning(
                "a worker is still starting, or waits for a place with 1 CPU and %d GPUs in the Ray cluster", self._gpus
            )

    def _long_silence(self, replica: _Replica) -> str | None:
        """What has been wrong for too long with a worker that has its place. One that ends reports no more, and may take long."""
        from ray.util.placement_group import placement_group_table

        if replica.retiring or not replica.silence.is_due:
            return None
        if replica.worker is None and placement_group_table(replica.group)["state"] != "CREATED":
            replica.silence = Silence("")
            return None
        return replica.silence.listen(self.database, self.settings)

    def _let_go(self, replica: _Replica) -> None:
        self._forget_worker(replica)
        self._remove(replica)
        self.replicas.remove(replica)

    def _forget_worker(self, replica: _Replica) -> None:
        """The process is dead: let others take its job up at once."""
        if replica.worker is None:
            return
        with suppress(DBAPIError):
            expire_leases(self.database, replica.worker)
            remove_worker(self.database, replica.worker)
        replica.worker, replica.silence = None, Silence("")

    def _has_ended(self, replica: _Replica) -> bool:
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            return bool(self._ray.get(replica.actor.state.remote(), timeout=ANSWER_SECONDS).ended)
        except GetTimeoutError:
            return False
        except RayActorError:
            return True

    def _remove(self, replica: _Replica) -> None:
        from ray.util.placement_group import remove_placement_group

        self._ray.kill(replica.actor, no_restart=True)
        remove_placement_group(replica.group)
