"""The library: a row for each clip, with one for every clip that was made before there was a library."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    clip = op.create_table(
        "clip",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("favourite", sa.Boolean(), nullable=False),
        sa.Column("folder", sa.String(100), nullable=False),
        sa.Column("imported", sa.String(64)),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("trashed_at", sa.Float()),
    )
    op.create_index("clip_owner", "clip", ["owner", "created_at"])
    op.create_index("clip_job", "clip", ["job_id"])
    op.create_table(
        "clip_tag",
        sa.Column("clip_id", sa.String(80), primary_key=True),
        sa.Column("tag", sa.String(50), primary_key=True),
    )
    op.create_index("clip_tag_name", "clip_tag", ["tag"])
    rows = [row for job in op.get_bind().execute(_COMPLETED).mappings() for row in _rows(job)]
    if rows:
        op.bulk_insert(clip, rows)


_JOB = sa.table(
    "job",
    *(sa.column(name) for name in ("id", "owner", "status", "model", "completed_at")),
    *(sa.column(name, sa.JSON) for name in ("request", "outputs", "made")),
)
_COMPLETED = sa.select(_JOB).where(_JOB.c.status == "completed")


def _rows(job: Any) -> list[dict[str, Any]]:
    seeds = list(job["made"].get("seeds") or []) + [None] * len(job["outputs"])
    words = [str(job["request"]["options"].get("prompt", "")), job["model"]]
    return [
        {
            "id": f"{job['id']}_{number}",
            "job_id": job["id"],
            "number": number,
            "owner": job["owner"],
            "model": job["model"],
            "title": "",
            "search": " ".join([*words, "" if seeds[number] is None else str(seeds[number])]).lower().replace("\0", ""),
            "seed": seeds[number],
            "seconds": float(job["made"].get("seconds") or 0.0),
            "favourite": False,
            "folder": "",
            "created_at": job["completed_at"],
            "changed_at": job["completed_at"],
        }
        for number in range(len(job["outputs"]))
    ]
