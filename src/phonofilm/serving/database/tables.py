"""The tables of the job database. Times are seconds since 1970 on the database's own clock; statements are elsewhere.

A change here needs a migration in `migrations/versions` too; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

METADATA = MetaData()

# One row for each request. `worker` and `attempt` are the fence: only who holds both may write what a run made.
JOB = Table(
    "job",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("hidden", Boolean, nullable=False, default=False),
    Column("dismissed", Boolean, nullable=False, default=False, server_default=false()),
    Column("model", String(200), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("position", Float, nullable=False),
    Column("request", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Column("expires_at", Float),
    Column("worker", String(64)),
    Column("attempt", Integer, nullable=False),
    Column("strikes", Integer, nullable=False),
    Column("lease_until", Float),
    Column("cancel_requested", Boolean, nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("stage", String(80)),
    Column("preview", String(200)),
    Column("outputs", JSON, nullable=False),
    Column("made", JSON, nullable=False),
    Column("nbytes", BigInteger, nullable=False),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("remixed_from", String(64)),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64)),
    Column("callback_url", Text),
    Column("callback_due", Float),
    Column("callback_tries", Integer, nullable=False),
    UniqueConstraint("owner", "idempotency_key", name="job_idempotency"),
    Index("job_claim", "status", "priority", "position"),
    Index("job_owner", "owner", "created_at"),
)

# What a client shows to be let in. Only a hash of the key is kept; a revoked key keeps its row.
API_KEY = Table(
    "api_key",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("max_queued", Integer),
    Column("max_running", Integer),
    Column("max_bytes", BigInteger),
    Column("best_priority", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

# One row for each clip that is finished (and for each that was brought in): what people add to it, and what is searched.
# It is written in the transaction that publishes the clip. `trashed_at`: it is in the trash since then.
CLIP = Table(
    "clip",
    METADATA,
    Column("id", String(80), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("title", String(200), nullable=False),
    Column("search", Text, nullable=False),
    Column("seed", BigInteger),
    Column("seconds", Float, nullable=False),
    Column("favourite", Boolean, nullable=False),
    Column("folder", String(100), nullable=False),
    Column("imported", String(64)),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("trashed_at", Float),
    Index("clip_owner", "owner", "created_at"),
    Index("clip_job", "job_id"),
)
CLIP_TAG = Table(
    "clip_tag",
    METADATA,
    Column("clip_id", String(80), primary_key=True),
    Column("tag", String(50), primary_key=True),
    Index("clip_tag_name", "tag"),
)

# Two clips of one prompt that were shown side by side, and what they were called; who voted on them is `owner`.
ARENA_PAIR = Table(
    "arena_pair",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("left_clip", String(80), nullable=False),
    Column("right_clip", String(80), nullable=False),
    Column("left_name", String(300), nullable=False),
    Column("right_name", String(300), nullable=False),
    Column("shown_at", Float, nullable=False),
    Column("voted_at", Float),
    Index("arena_pair_owner", "owner", "kind", "voted_at"),
)
ARENA_VOTE = Table(
    "arena_vote",
    METADATA,
    Column("pair", String(64), primary_key=True),
    Column("question", String(16), primary_key=True),
    Column("answer", String(16), nullable=False),
)

# A browser that showed a key: its cookie stands for the key until the session expires. Only a hash of the cookie is kept.
BROWSER_SESSION = Table(
    "browser_session",
    METADATA,
    Column("token_hash", String(64), primary_key=True),
    Column("key_id", String(64), nullable=False),
    Column("expires_at", Float, nullable=False),
)

# Workers say here that they live, and what they can do.
WORKER = Table(
    "worker",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("models", JSON, nullable=False),
    Column("memory", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

# A few values that all servers share, by name.
SETTING = Table(
    "setting", METADATA, Column("name", String(64), primary_key=True), Column("value", JSON, nullable=False)
)
