"""The arena: pairs that were shown, and votes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "arena_pair",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("left_clip", sa.String(80), nullable=False),
        sa.Column("right_clip", sa.String(80), nullable=False),
        sa.Column("left_name", sa.String(300), nullable=False),
        sa.Column("right_name", sa.String(300), nullable=False),
        sa.Column("shown_at", sa.Float(), nullable=False),
        sa.Column("voted_at", sa.Float()),
    )
    op.create_index("arena_pair_owner", "arena_pair", ["owner", "kind", "voted_at"])
    op.create_table(
        "arena_vote",
        sa.Column("pair", sa.String(64), primary_key=True),
        sa.Column("question", sa.String(16), primary_key=True),
        sa.Column("answer", sa.String(16), nullable=False),
    )
