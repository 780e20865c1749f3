"""One database, one store: its jobs name files without saying where, so that a worker with another store would lose them."""

from __future__ import annotations

import logging
import time
import uuid

from phonofilm.errors import InputError
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.roster import first_setting
from phonofilm.serving.store.interface import MARKER, Store, StoreError
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)

SETTING = "store"
# Another server may have begun to mark the store at this moment.
PATIENCE_SECONDS = 5.0


def require_own_store(database: Database, store: Store, place: str) -> None:
    """The store at `place` becomes the database's, if it has none. Raises InputError where its files are in another one.

    A store that cannot be reached now is not compared: jobs say so.
    """
    try:
        mark = store.mark()
        mine = mark or uuid.uuid4().hex
        wanted = first_setting(database, SETTING, mine)
        if mark == "" and wanted == mine:
            store.set_mark(wanted)
            return
        until = time.monotonic() + PATIENCE_SECONDS
        while mark == "" and time.monotonic() < until:
            time.sleep(0.1)
            mark = store.mark()
    except StoreError as error:
        logger.warning("%s; whether it is the database's own store is not known", error)
        return
    if mark != wanted:
        raise InputError(
            f"the files of this database's jobs are in another store than {shown(place)}: give that one with --store. If it is "
            f"the same, copied or moved without its file {MARKER}, write {wanted} into a file of that name in it"
        )
