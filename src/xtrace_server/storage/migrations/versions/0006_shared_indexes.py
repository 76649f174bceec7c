"""Shared indexes: sealed copies of local indexes, which clients leave for each other."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STRING = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "shared_index",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("binding_pk", KEY, nullable=True),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.LargeBinary(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["binding_pk"], ["binding.pk"], name="fk_shared_index_binding_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_shared_index"),
        sa.UniqueConstraint("binding_pk", "kind", name="uq_shared_index_binding_pk"),
    )
    op.create_table(
        "index_segment",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("binding_pk", KEY, nullable=True),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("unlisted_since", STRING, nullable=True),
        sa.ForeignKeyConstraint(["binding_pk"], ["binding.pk"], name="fk_index_segment_binding_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_index_segment"),
        sa.UniqueConstraint("binding_pk", "kind", "sha256", name="uq_index_segment_binding_pk"),
    )
    unlisted = sa.text("unlisted_since IS NOT NULL")
    op.create_index(
        "ix_index_segment_unlisted_since",
        "index_segment",
        ["unlisted_since"],
        sqlite_where=unlisted,
        postgresql_where=unlisted,
    )
    op.create_table(
        "index_segment_body",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["pk"], ["index_segment.pk"], name="fk_index_segment_body_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_index_segment_body"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Random bytes cannot be compressed: PostgreSQL does not try.
        op.execute("ALTER TABLE index_segment_body ALTER COLUMN body SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE shared_index ALTER COLUMN segments SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE shared_index ALTER COLUMN manifest SET STORAGE EXTERNAL")
