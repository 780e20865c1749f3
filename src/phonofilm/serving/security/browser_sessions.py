"""Sessions of browsers: a cookie that stands for a key, since video elements and event streams send no Authorization header."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete, insert, select

from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import API_KEY, BROWSER_SESSION
from phonofilm.serving.security.access import Access
from phonofilm.serving.security.api_keys import access_of_row, has_keys

COOKIE = "phonofilm_session"
SESSION_SECONDS = 30 * 86_400.0


def start_session(database: Database, key: str) -> str | None:
    """A session's token for whoever shows a valid key, else None. Sessions that have ended are removed."""
    key_hash, token = _hash(key), secrets.token_urlsafe(32)
    now = DatabaseNow()
    with database.write() as connection:
        connection.execute(delete(BROWSER_SESSION).where(BROWSER_SESSION.c.expires_at < now))
        row = connection.execute(
            select(API_KEY.c.id).where(API_KEY.c.token_hash == key_hash, API_KEY.c.revoked_at.is_(None))
        ).first()
        if row is None:
            return None
        values = {"token_hash": _hash(token), "key_id": row.id, "expires_at": now + SESSION_SECONDS}
        connection.execute(insert(BROWSER_SESSION).values(values))
    return token


def end_session(database: Database, token: str) -> None:
    """The token lets nobody in any more."""
    with database.write() as connection:
        connection.execute(delete(BROWSER_SESSION).where(BROWSER_SESSION.c.token_hash == _hash(token)))


def access_of_session(database: Database, token: str) -> Access | None:
    """The rights of the session's key; None when the session has ended or the key was revoked."""
    statement = (
        select(*API_KEY.c)
        .join(BROWSER_SESSION, BROWSER_SESSION.c.key_id == API_KEY.c.id)
        .where(BROWSER_SESSION.c.token_hash == _hash(token), BROWSER_SESSION.c.expires_at > DatabaseNow())
    )
    if not has_keys(database):
        return None
    with database.read() as connection:
        row = connection.execute(statement).mappings().first()
    return None if row is None else access_of_row(row)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
