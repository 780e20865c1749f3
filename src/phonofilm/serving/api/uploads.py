"""Files that were sent before the requests that name them, so that a plan after a plan does not bring them again.

They lie among the inputs under a name that is no job's, and go as all files there that belong to no job: after an hour.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from phonofilm.files import file_hash
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.job_queue import check_bytes
from phonofilm.serving.security.access import Access
from phonofilm.serving.store.interface import INPUTS

UPLOAD_ID = re.compile(r"upload_[0-9a-f]{16}_[0-9a-f]{32}")
# Of one key at once: with one more the oldest goes. A form has room for half as many.
MOST_UPLOADS = 48


def keep_upload(services: Services, access: Access, file: Path) -> str:
    """Keep a copy of the file and give its name, the same for the same file. Raises QueueFull where a quota is used up."""
    with services.database.read() as connection:
        check_bytes(connection, file.stat().st_size, access, services.api.room)
    own = _prefix(access)
    name = f"{own}{file_hash(file)[:32]}"
    kept = sorted(
        (one for one in services.store.folders(INPUTS) if one[0].startswith(own) and one[0] != name),
        key=lambda one: one[1],
    )
    for oldest, _ in kept[: max(0, len(kept) + 1 - MOST_UPLOADS)]:
        for stored in services.store.files(INPUTS, oldest):
            services.store.delete(stored)
    services.store.put(f"{INPUTS}/{name}/upload", file)
    return name


def find_upload(services: Services, access: Access, name: str) -> str | None:
    """The stored name of an upload of this key; None where it is gone, or is another key's."""
    if not name.startswith(_prefix(access)):
        return None
    return next(iter(services.store.files(INPUTS, name)), None)


def _prefix(access: Access) -> str:
    return f"upload_{hashlib.sha256(access.owner.encode()).hexdigest()[:16]}_"
