"""The sessions of the dashboard."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STRING = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "session",
        sa.Column("hash", STRING, nullable=False),
        sa.Column("organisation_id", STRING, nullable=True),
        sa.Column("admin_key_hash", STRING, nullable=True),
        sa.Column("operator_key_hash", STRING, nullable=True),
        sa.Column("created_at", STRING, nullable=False),
        sa.Column("used_at", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_session_organisation_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["admin_key_hash"], ["admin_key.hash"], name="fk_session_admin_key_hash", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["operator_key_hash"], ["operator_key.hash"], name="fk_session_operator_key_hash", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_session"),
    )
    op.create_index("ix_session_organisation_id", "session", ["organisation_id", "used_at"])
    op.create_index("ix_session_admin_key_hash", "session", ["admin_key_hash"])
    op.create_index("ix_session_operator_key_hash", "session", ["operator_key_hash"])
    op.create_index("ix_session_used_at", "session", ["used_at"])
    op.create_table(
        "sent_form",
        sa.Column("session_hash", STRING, nullable=False),
        sa.Column("nonce", STRING, nullable=False),
        sa.ForeignKeyConstraint(
            ["session_hash"], ["session.hash"], name="fk_sent_form_session_hash", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_hash", "nonce", name="pk_sent_form"),
    )
