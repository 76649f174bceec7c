"""The tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRING = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def indexed(column: str) -> str | sa.TextClause:
    """What an index holds of a text: all of it in SQLite, its beginning in PostgreSQL, whose entries are bounded."""
    return column if op.get_bind().dialect.name == "sqlite" else sa.text(f"left({column}, 256)")


def upgrade() -> None:
    op.create_table(
        "organisation",
        sa.Column("id", STRING, nullable=False),
        sa.Column("name", STRING, nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.Column("suspended_at", STRING, nullable=True),
        sa.Column("deleted_at", STRING, nullable=True),
        sa.Column("erased_at", STRING, nullable=True),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("contexts", sa.BigInteger(), nullable=False),
        sa.Column("max_chunks", sa.BigInteger(), nullable=True),
        sa.Column("max_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_contexts", sa.BigInteger(), nullable=True),
        sa.Column("max_requests_per_minute", sa.BigInteger(), nullable=True),
        sa.Column("max_requests_per_day", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_organisation"),
    )
    op.create_index(
        "ix_organisation_deleted_at",
        "organisation",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL AND erased_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL AND erased_at IS NULL"),
    )
    op.create_table(
        "request_count",
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("in_minute", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("in_day", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_request_count_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organisation_id", name="pk_request_count"),
    )
    op.create_table(
        "admin_key",
        sa.Column("hash", STRING, nullable=False),
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_admin_key_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_admin_key"),
    )
    op.create_table(
        "operator_key",
        sa.Column("hash", STRING, nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_operator_key"),
    )
    op.create_table(
        "api_key",
        sa.Column("hash", STRING, nullable=False),
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("first_n", STRING, nullable=False),
        sa.Column("first_n_folded", STRING, nullable=False),
        sa.Column("name", STRING, nullable=False),
        sa.Column("description", STRING, nullable=False),
        sa.Column("default_permission", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.Column("expires_at", STRING, nullable=True),
        sa.Column("last_used_at", STRING, nullable=True),
        sa.Column("revoked_at", STRING, nullable=True),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_api_key_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_api_key"),
        sa.UniqueConstraint("organisation_id", "first_n_folded", name="uq_api_key_organisation_id"),
    )
    op.create_table(
        "execution_context",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("type", STRING, nullable=False),
        sa.Column("public_key", STRING, nullable=False),
        sa.Column("config", STRING, nullable=False),
        sa.Column("encrypted_secret", STRING, nullable=True),
        sa.Column("key_provider", STRING, nullable=True),
        sa.Column("wrapped_key", STRING, nullable=True),
        sa.Column("name", STRING, nullable=True),
        sa.Column("successor", STRING, nullable=True),
        sa.Column("saved_by", STRING, nullable=True),
        sa.Column("created_at", STRING, nullable=False),
        sa.Column("updated_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_execution_context_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pk", name="pk_execution_context"),
        sa.UniqueConstraint("organisation_id", "id", name="uq_execution_context_organisation_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_execution_context_name",
        "execution_context",
        ["organisation_id", "name"],
        unique=True,
        sqlite_where=sa.text("name IS NOT NULL"),
        postgresql_where=sa.text("name IS NOT NULL"),
    )
    op.create_table(
        "knowledge_base",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("name", STRING, nullable=False),
        sa.Column("description", STRING, nullable=False),
        sa.Column("number_of_vectors", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("next_chunk_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("removal_revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.Column("updated_at", STRING, nullable=False),
        sa.Column("deleted_at", STRING, nullable=True),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_knowledge_base_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pk", name="pk_knowledge_base"),
        sa.UniqueConstraint("id", name="uq_knowledge_base_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_knowledge_base_organisation_id", "knowledge_base", ["organisation_id"], unique=False)
    op.create_index(
        "ix_knowledge_base_deleted_at",
        "knowledge_base",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "retired_context",
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("context_id", STRING, nullable=False),
        sa.Column("retired_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_retired_context_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organisation_id", "context_id", name="pk_retired_context"),
    )
    op.create_table(
        "binding",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("kb_pk", KEY, nullable=False),
        sa.Column("context_pk", KEY, nullable=True),
        sa.Column("row_bytes", sa.Integer(), nullable=True),
        sa.Column("name_salt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["context_pk"], ["execution_context.pk"], name="fk_binding_context_pk", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["kb_pk"], ["knowledge_base.pk"], name="fk_binding_kb_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_binding"),
        sa.UniqueConstraint("kb_pk", "context_pk", name="uq_binding_kb_pk"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_binding_context_pk", "binding", ["context_pk"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("api_key_hash", STRING, nullable=False),
        sa.Column("key", STRING, nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_hash"], ["api_key.hash"], name="fk_idempotency_api_key_hash", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("api_key_hash", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "permission",
        sa.Column("api_key_hash", STRING, nullable=False),
        sa.Column("kb_pk", KEY, nullable=False),
        sa.Column("permission", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_hash"], ["api_key.hash"], name="fk_permission_api_key_hash", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["kb_pk"], ["knowledge_base.pk"], name="fk_permission_kb_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("api_key_hash", "kb_pk", name="pk_permission"),
    )
    op.create_index("ix_permission_kb_pk", "permission", ["kb_pk"], unique=False)
    op.create_table(
        "chunk",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("binding_pk", KEY, nullable=False),
        sa.Column("name", STRING, nullable=False),
        sa.Column("unique_name", sa.LargeBinary(), nullable=True),
        sa.Column("tag1", STRING, nullable=True),
        sa.Column("tag2", STRING, nullable=True),
        sa.Column("tag3", STRING, nullable=True),
        sa.Column("tag4", STRING, nullable=True),
        sa.Column("tag5", STRING, nullable=True),
        sa.Column("facet_count", sa.Integer(), nullable=False),
        sa.Column("facet_bytes", sa.Integer(), nullable=False),
        sa.Column("content_bytes", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", STRING, nullable=False),
        sa.Column("updated_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(["binding_pk"], ["binding.pk"], name="fk_chunk_binding_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_chunk"),
    )
    op.create_index("ix_chunk_binding_pk", "chunk", ["binding_pk", "pk"], unique=False)
    op.create_index(
        "ix_chunk_name",
        "chunk",
        ["binding_pk", indexed("name")],
        unique=False,
        sqlite_where=sa.text("name <> ''"),
        postgresql_where=sa.text("name <> ''"),
    )
    op.create_index(
        "uq_chunk_unique_name",
        "chunk",
        ["binding_pk", "unique_name"],
        unique=True,
        sqlite_where=sa.text("unique_name IS NOT NULL"),
        postgresql_where=sa.text("unique_name IS NOT NULL"),
    )
    op.create_index("ix_chunk_revision", "chunk", ["binding_pk", "revision"], unique=False)
    for time in ("created_at", "updated_at"):
        op.create_index(f"ix_chunk_{time}", "chunk", ["binding_pk", time, "pk"], unique=False)
    for tag in ("tag1", "tag2", "tag3", "tag4", "tag5"):
        op.create_index(
            f"ix_chunk_{tag}",
            "chunk",
            ["binding_pk", indexed(tag)],
            unique=False,
            postgresql_where=sa.text(f"{tag} IS NOT NULL"),
        )
    op.create_table(
        "ciphertext",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("row", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["pk"], ["chunk.pk"], name="fk_ciphertext_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_ciphertext"),
    )
    op.create_table(
        "deleted_chunk",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["pk"], ["chunk.pk"], name="fk_deleted_chunk_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_deleted_chunk"),
    )
    op.create_table(
        "content",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("content", STRING, nullable=False),
        sa.ForeignKeyConstraint(["pk"], ["chunk.pk"], name="fk_content_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_content"),
    )
    op.create_table(
        "facet",
        sa.Column("chunk_pk", KEY, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("binding_pk", KEY, nullable=False),
        sa.Column("token", STRING, nullable=False),
        sa.PrimaryKeyConstraint("chunk_pk", "position", name="pk_facet"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_facet_token", "facet", ["binding_pk", indexed("token"), "chunk_pk"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        # Ciphertexts cannot be compressed: PostgreSQL does not try.
        op.execute("ALTER TABLE ciphertext ALTER COLUMN row SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE content ALTER COLUMN content SET STORAGE EXTERNAL")
