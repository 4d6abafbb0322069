"""Run by alembic: carries the migrations out on the connection that `store.migrate` made."""

from __future__ import annotations

from alembic import context

from pleb_coordinator.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
