"""The database's clock, which leases are measured with: those of workers and servers on several machines differ."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class DatabaseNow(FunctionElement[float]):
    """Seconds since 1970 as the database sees them, at the moment the statement runs."""

    type = Float()
    inherit_cache = True


class EnteringTime(FunctionElement[float]):
    """`DatabaseNow` for a job that enters: later than that of the job before it, so that whoever comes first is first."""

    type = Float()
    inherit_cache = True


_SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
# SQLite's clock counts milliseconds, in which a fast machine takes several jobs; there is one writer at a time.
_SQLITE_ENTERING = f"""(
    SELECT CASE WHEN abs(last - now) < 0.002 THEN max(now, last + 0.000001) ELSE now END FROM (
        SELECT {_SQLITE_NOW} AS now, coalesce((SELECT created_at FROM job ORDER BY rowid DESC LIMIT 1), 0) AS last
    )
)"""


@compiles(DatabaseNow, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return _SQLITE_NOW


@compiles(EnteringTime, "sqlite")
def _entering_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return _SQLITE_ENTERING


@compiles(DatabaseNow, "postgresql")
@compiles(EnteringTime, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    # now() would be the beginning of the transaction.
    return "(extract(epoch from clock_timestamp())::double precision)"
