"""API keys: made, listed, revoked and looked up. The table holds a hash; the key itself is shown once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from phonofilm.errors import InputError
from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import API_KEY, BROWSER_SESSION
from phonofilm.serving.security.access import OPEN_ACCESS, READ, SCOPES, WRITE, Access
from phonofilm.untrusted import shown

PREFIX = "pf-"
MOST_JOBS, MOST_BYTES = 2**31 - 1, 2**60
MOST_PRIORITY = 100  # as in requests, either way


@dataclass(frozen=True)
class KeyLimits:
    """What a key may take; None is without limit. Raises InputError for what no queue or disk has."""

    max_queued: int | None = None
    max_running: int | None = None
    max_bytes: int | None = None
    best_priority: int = 0

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("jobs that may wait", self.max_queued, 1, MOST_JOBS),
            ("jobs that may run", self.max_running, 1, MOST_JOBS),
            ("bytes", self.max_bytes, 1, MOST_BYTES),
            ("the best priority", self.best_priority, -MOST_PRIORITY, MOST_PRIORITY),
        ):
            if value is not None and not least <= value <= most:
                raise InputError(f"a key's limit ({name}) is {value}; give {least:,} to {most:,}, or leave it out")


def create_key(
    database: Database, name: str, scopes: Sequence[str] = (READ, WRITE), limits: KeyLimits | None = None
) -> str:
    """A new key, which can be shown now and never again.

    The name of a revoked key can be given again: the new key is the same owner's, and sees the jobs of the old one.
    Raises InputError for the name of a valid key, one that would be more than its part of a line, or a wrong scope.
    """
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise InputError(f"scope {unknown[0]!r} is unknown; use {', '.join(SCOPES)}")
    if not name.strip() or len(name) > 100:
        raise InputError("the key's name must have 1 to 100 characters, and not spaces alone")
    if shown(name) != name:
        raise InputError(
            f"the key's name holds control characters ({shown(name)}); use letters, digits, spaces and signs"
        )
    limits = limits or KeyLimits()
    token = PREFIX + secrets.token_urlsafe(32)
    values = {
        "token_hash": hash_of(token),
        "hint": token[: len(PREFIX) + 4],
        "scopes": sorted(set(scopes)),
        "max_queued": limits.max_queued,
        "max_running": limits.max_running,
        "max_bytes": limits.max_bytes,
        "best_priority": limits.best_priority,
        "created_at": DatabaseNow(),
        "revoked_at": None,
    }
    revoked = select(API_KEY.c.id).where(API_KEY.c.name == name, API_KEY.c.revoked_at.is_not(None))
    try:
        with database.write() as connection:
            if (owner := connection.execute(revoked).scalar()) is not None:
                # A browser that was signed in with the old key is not with the new one.
                connection.execute(delete(BROWSER_SESSION).where(BROWSER_SESSION.c.key_id == owner))
                connection.execute(update(API_KEY).where(API_KEY.c.id == owner).values(values))
            else:
                connection.execute(insert(API_KEY).values(id=f"key_{secrets.token_hex(8)}", name=name, **values))
    except IntegrityError:
        raise InputError(f"there is a valid key named {name!r}; revoke it first, or choose another name") from None
    return token


def list_keys(database: Database) -> list[dict[str, Any]]:
    """Every key's row, without its hash, oldest first."""
    columns = [column for column in API_KEY.c if column.name != "token_hash"]
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(*columns).order_by(API_KEY.c.created_at)).mappings()]


def describe_key(row: Mapping[str, Any]) -> str:
    """A row of `list_keys` as a line: name, how the key begins, scopes, whether it is valid, limits."""
    state = "revoked" if row["revoked_at"] else "valid"
    limits = [f"{name}={row[name]}" for name in ("max_queued", "max_running", "max_bytes") if row[name]]
    return " ".join([shown(row["name"]), f"{row['hint']}...", ",".join(row["scopes"]), state, *limits])


def revoke_key(database: Database, name: str) -> None:
    """The key is no longer let in. Its jobs stay. Raises InputError when there is none of that name.

    Names that hold control characters, which old versions took, can be given as `describe_key` shows them.
    """
    valid = API_KEY.c.revoked_at.is_(None)
    with database.write() as connection:
        names = connection.execute(select(API_KEY.c.name).where(valid)).scalars().all()
        meant = [name] if name in names else [one for one in names if shown(one) == name]
        if not meant:
            raise InputError(f"there is no valid key named {name!r}; phonofilm serve keys list shows them")
        connection.execute(update(API_KEY).where(valid, API_KEY.c.name.in_(meant)).values(revoked_at=DatabaseNow()))


def has_keys(database: Database) -> bool:
    """Whether any key was ever made: from then on every request needs one, also when the last one was revoked."""
    with database.read() as connection:
        return connection.execute(select(API_KEY.c.id).limit(1)).first() is not None


def access_of(database: Database, token: str | None) -> Access | None:
    """The rights of who shows `token`; everything on a server that has no keys; None for nobody."""
    if token is None:
        return None if has_keys(database) else OPEN_ACCESS
    with database.read() as connection:
        row = connection.execute(select(*API_KEY.c).where(API_KEY.c.token_hash == hash_of(token))).mappings().first()
    if row is not None and (found := access_of_row(row)) is not None:
        return found
    # Clients of OpenAI's dialect must be given some key; a server without keys takes any.
    return None if has_keys(database) else OPEN_ACCESS


def access_of_row(row: RowMapping) -> Access | None:
    """The rights of a key's row; None when it was revoked."""
    if row["revoked_at"] is not None:
        return None
    limits = {name: row[name] for name in ("max_queued", "max_running", "max_bytes", "best_priority")}
    return Access(row["id"], frozenset(row["scopes"]), **limits)


def hash_of(token: str) -> str:
    """Keys are long and random, so that a fast hash is enough: there is no list of words to try."""
    return hashlib.sha256(token.encode()).hexdigest()
