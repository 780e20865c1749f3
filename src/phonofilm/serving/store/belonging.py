"""One database, one store: its jobs name files without saying where, so that a worker with another store would lose them."""

from __future__ import annotations

import logging
import time
import uuid

from phonofilm.errors import InputError
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.roster import first_setting, read_setting
from phonofilm.serving.store.interface import INPUTS, MARKER, OUTPUTS, Store, StoreError
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)

SETTING = "store"
# When it became so, of a store with files: what lay there before is not swept, as nobody knows whose it was.
SINCE = "store_since"
# Another server may have begun to mark the store at this moment.
PATIENCE_SECONDS = 5.0


def require_own_store(database: Database, store: Store, place: str) -> None:
    """The store at `place` becomes the database's, if neither belongs to another. Raises InputError where one does.

    A store that cannot be reached now is not compared: jobs say so.
    """
    try:
        mark, wanted = store.mark(), read_setting(database, SETTING)
        if wanted is None and mark != "":
            raise InputError(
                f"the files in {shown(place)} are those of another job database than this one; give that one with "
                f"--database-url, or another --store. If it is lost, or this one is a copy of it, remove {MARKER} there"
            )
        if wanted is None:
            mine = uuid.uuid4().hex
            if store.folders(INPUTS) or store.folders(OUTPUTS):
                first_setting(database, SINCE, time.time())
            wanted = first_setting(database, SETTING, mine)
            if wanted == mine:
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
