"""What organisations use, by the hour."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STRING = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
COUNTS = (
    *("requests", "errors", "searches", "filtered", "fetched", "written"),
    *[f"latency_{i}" for i in range(16)],
)


def upgrade() -> None:
    op.create_table(
        "usage_hour",
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS],
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_usage_hour_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organisation_id", "hour", name="pk_usage_hour"),
    )
    op.create_index("ix_usage_hour_hour", "usage_hour", ["hour"])
    op.create_table(
        "usage_error",
        sa.Column("organisation_id", STRING, nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("code", STRING, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_usage_error_organisation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organisation_id", "hour", "code", name="pk_usage_error"),
    )
    op.create_index("ix_usage_error_hour", "usage_error", ["hour"])
