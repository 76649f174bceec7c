"""Blocks: vectors that were encrypted together, as an index over chunks."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STRING = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("chunk", sa.Column("block_pk", sa.BigInteger(), nullable=True))
    op.add_column("chunk", sa.Column("slot", sa.SmallInteger(), nullable=True))
    unsealed = sa.text("block_pk IS NULL")
    op.create_index(
        "ix_chunk_unsealed", "chunk", ["binding_pk", "pk"], sqlite_where=unsealed, postgresql_where=unsealed
    )
    op.create_table(
        "block",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("binding_pk", KEY, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("live_count", sa.Integer(), nullable=False),
        sa.Column("live", sa.LargeBinary(), nullable=False),
        sa.Column("dead_since", STRING, nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.Column("hints", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["binding_pk"], ["binding.pk"], name="fk_block_binding_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_block"),
    )
    op.create_index("ix_block_binding_pk", "block", ["binding_pk"])
    op.create_index("ix_block_sha256", "block", ["sha256"])
    dead = sa.text("live_count = 0")
    op.create_index("ix_block_dead", "block", ["pk"], sqlite_where=dead, postgresql_where=dead)
    op.create_table(
        "block_body",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["pk"], ["block.pk"], name="fk_block_body_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pk", name="pk_block_body"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Random bytes cannot be compressed: PostgreSQL does not try.
        op.execute("ALTER TABLE block_body ALTER COLUMN body SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE block ALTER COLUMN hints SET STORAGE EXTERNAL")
