"""Keys that were shown a moment ago, so that clients which ask often cost no look into the database each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from phonofilm.serving.database.engines import Database
from phonofilm.serving.security.access import Access
from phonofilm.serving.security.api_keys import access_of, has_keys, hash_of
from phonofilm.serving.security.browser_sessions import access_of_session

# For so long a revoked key is still let in by a server that has just let it in.
REMEMBERED_SECONDS = 1.0
MOST_REMEMBERED = 1000


@dataclass(frozen=True)
class Admitted:
    """The rights of who asks, and whether a browser's session stood for the key."""

    access: Access
    by_session: bool = False


@dataclass
class Keyring:
    """Remembers keys and sessions that were valid, by hash, for `seconds`; what was refused is looked up anew each time.

    What is past its time is kept for `recall_last` alone.
    """

    database: Database
    seconds: float = REMEMBERED_SECONDS
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[float, Admitted]] = field(default_factory=dict)
    _has_keys: bool = False

    def recall(self, key: str | None, session: str | None = None) -> Admitted | None:
        """Who showed the same key and session (None: none was shown) a moment ago; never waits."""
        found = self._known.get(_shown(key, session))
        return found[1] if found is not None and self.clock() < found[0] else None

    def recall_last(self, key: str | None, session: str | None = None) -> Admitted | None:
        """Who showed the same when it was last looked up, however long ago; for what is asked while the database is away."""
        found = self._known.get(_shown(key, session))
        return None if found is None else found[1]

    def look_up(self, key: str | None, session: str | None = None) -> Admitted | None:
        """Who shows a key or, without one, a browser's session, from the database; None for nobody."""
        until = self.clock() + self.seconds
        access = None if key is not None or session is None else access_of_session(self.database, session)
        by_session = access is not None
        access = access or access_of(self.database, key)
        if access is None:
            self._known.pop(_shown(key, session), None)
            return None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        found = Admitted(access, by_session)
        self._known[_shown(key, session)] = (until, found)
        return found

    def forget(self) -> None:
        """Look everybody up anew: a session was ended here."""
        self._known.clear()

    @property
    def knows_of_keys(self) -> bool:
        """Whether any key is known to have been made. That stays so; before it, the database is asked by `has_keys`."""
        return self._has_keys

    def has_keys(self) -> bool:
        """Whether any key was ever made."""
        self._has_keys = self._has_keys or has_keys(self.database)
        return self._has_keys


def _shown(key: str | None, session: str | None) -> str:
    return hash_of(f"{key}\n{session}")
