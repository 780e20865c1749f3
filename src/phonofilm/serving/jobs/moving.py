"""Giving a waiting job another place in the queue, and with it the priority that belongs there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import update

from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import QUEUED, Job, job_of
from phonofilm.serving.jobs.job_queue import QUEUE_ORDER, NotWaiting, visible_jobs
from phonofilm.serving.security.access import Access


class PriorityTooGood(Exception):
    """The place is among jobs of priority `needed`, which is better than the key may ask for."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"the place needs priority {needed}")
        self.needed = needed


def move_job(database: Database, job: Job, access: Access, index: int) -> list[Job]:
    """Give a waiting job place `index` (0 is next) among all waiting jobs that this key sees, which are returned in order.

    The job gets the priority of its new neighbours, where its own would put it elsewhere. Jobs of one priority exchange the
    places that they have, so that moving among them makes another key's jobs wait no longer than before.
    Raises NotWaiting, and PriorityTooGood for a place before jobs of a better priority than the key may give.
    """
    with database.write() as connection:
        statement = visible_jobs(access).where(JOB.c.status == QUEUED)
        if not database.is_sqlite:
            statement = statement.with_for_update()
        rows = connection.execute(statement.order_by(*QUEUE_ORDER)).mappings().all()
        before = {row["id"]: job_of(row) for row in rows}
        if job.id not in before:
            raise NotWaiting
        mine = before[job.id]
        others = [one for one in before.values() if one.id != job.id]
        priority = _priority_between(others[:index], mine.priority, others[index:])
        if priority < min(mine.priority, access.best_priority):
            raise PriorityTooGood(priority)
        order = _placed([*others[:index], replace(mine, priority=priority), *others[index:]], priority)
        for one in order:
            was = before[one.id]
            if (one.priority, one.position) != (was.priority, was.position):
                values = {"priority": one.priority, "position": one.position}
                connection.execute(update(JOB).where(JOB.c.id == one.id).values(values))
    return order


def _priority_between(earlier: Sequence[Job], own: int, later: Sequence[Job]) -> int:
    """The priority nearest to `own` that is in order between these jobs."""
    if later and own > later[0].priority:
        return later[0].priority
    return max(own, earlier[-1].priority) if earlier else own


def _placed(order: Sequence[Job], priority: int) -> list[Job]:
    """The jobs in this order, by the positions that those of the priority have among them."""
    places = iter(sorted(one.position for one in order if one.priority == priority))
    return [replace(one, position=next(places)) if one.priority == priority else one for one in order]
