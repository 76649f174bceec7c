"""Run by Alembic: migrates over the connection that `storage.database` hands in, inside its transaction."""

from alembic import context

from xtrace_server.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
