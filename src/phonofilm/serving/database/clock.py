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


@compiles(DatabaseNow, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseNow, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    # now() would be the beginning of the transaction.
    return "(extract(epoch from clock_timestamp())::double precision)"
