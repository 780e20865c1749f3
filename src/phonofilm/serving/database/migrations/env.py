"""Run by alembic: the migrations go through the connection that `migrate` opened, in its transaction."""

from __future__ import annotations

from alembic import context

from phonofilm.serving.database.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
