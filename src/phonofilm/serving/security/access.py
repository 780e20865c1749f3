"""Who is asking, and what they may do. How keys are made and looked up is in api_keys.py."""

from __future__ import annotations

from dataclasses import dataclass

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)
# The owner of jobs on a server of one's own, without keys.
LOCAL = "local"


@dataclass(frozen=True)
class Access:
    """A key's rights. Lower priorities run first; `best_priority` is the lowest that it may ask for."""

    owner: str
    scopes: frozenset[str]
    max_queued: int | None = None
    max_running: int | None = None
    max_bytes: int | None = None
    best_priority: int = 0

    @property
    def sees_all(self) -> bool:
        return ADMIN in self.scopes

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes


OPEN_ACCESS = Access(LOCAL, frozenset(SCOPES), best_priority=-100)
