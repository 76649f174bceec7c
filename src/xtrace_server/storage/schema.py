"""The tables: one definition for queries and migrations.

A chunk's primary key combines the number of its knowledge base and its chunk id (`chunk_pk`). So the chunks of a
knowledge base are adjacent in every table, sorted by id, and a range of ids is a range of keys. The tables that a
metadata search reads (`chunk`, `facet`) are separate from contents and ciphertexts.

A *binding* is the pair of a knowledge base and an execution context of its chunks: the scope of every search. Every
index on metadata begins with it. Strings compare by code point (UTF-8 bytes): the collation BINARY in SQLite, and "C"
elsewhere.
"""

from hashlib import sha256

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from xtrace_core.wire import TAGS
from xtrace_server.storage.indexed_text import Indexed

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

CHUNK_ID_BITS = 40
MAX_CHUNK_ID = 2**CHUNK_ID_BITS - 1
MAX_KNOWLEDGE_BASE_PK = 2 ** (63 - CHUNK_ID_BITS) - 1

# SQLite only numbers rows itself in a column of exactly the type INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")


def chunk_pk(kb_pk: int, chunk_id: int) -> int:
    """The primary key of a chunk; the chunk id is from 0 to `MAX_CHUNK_ID`."""
    return kb_pk << CHUNK_ID_BITS | chunk_id


def chunk_id_of(pk: int) -> int:
    """Returns the chunk id in a chunk's primary key."""
    return int(pk & MAX_CHUNK_ID)


def unique_key(name: str) -> bytes:
    """Returns the value of `unique_name` for a name: its SHA-256, because names may be longer than index entries."""
    return sha256(name.encode()).digest()


organisation = Table(
    "organisation",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("name", _Text, nullable=False),
    Column("created_at", _Text, nullable=False),
    Column("suspended_at", _Text),  # from then on, its keys do not work
    Column("deleted_at", _Text),  # from then on it is gone for everyone, and what it stored goes step by step
    Column("erased_at", _Text),  # when the last of it had gone; the row stays, because the audit log refers to it
    # Sums of everything that it stores, updated by every write.
    Column("chunks", BigInteger, nullable=False, default=0),
    Column("stored_bytes", BigInteger, nullable=False, default=0),
    Column("contexts", BigInteger, nullable=False, default=0),
    # Quotas; null: none.
    Column("max_chunks", BigInteger),
    Column("max_bytes", BigInteger),
    Column("max_contexts", BigInteger),
    Column("max_requests_per_minute", BigInteger),
    Column("max_requests_per_day", BigInteger),
)

Index(
    "ix_organisation_deleted_at",
    organisation.c.deleted_at,
    sqlite_where=text("deleted_at IS NOT NULL AND erased_at IS NULL"),
    postgresql_where=text("deleted_at IS NOT NULL AND erased_at IS NULL"),
)

request_count = Table(  # apart from the organisation, so that counting does not wait for what it stores
    "request_count",
    metadata,
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), primary_key=True),
    Column("minute", BigInteger, nullable=False),  # the last one with a request, in minutes since 1970
    Column("in_minute", BigInteger, nullable=False),
    Column("day", BigInteger, nullable=False),
    Column("in_day", BigInteger, nullable=False),
)

FIGURES = ("requests", "errors", "searches", "filtered", "fetched", "written")
"""The figures of an organisation per hour."""
LATENCY_BOUNDS_MS = (2, 5, 10, 20, 35, 50, 75, 100, 150, 250, 500, 1000, 2000, 5000, 15_000)
"""The bounds of the searches' times: counts are below the first, between two, and from the last on."""
LATENCIES = tuple(f"latency_{i}" for i in range(len(LATENCY_BOUNDS_MS) + 1))

usage_hour = Table(  # kept for a few weeks
    "usage_hour",
    metadata,
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # since 1970
    *[Column(name, BigInteger, nullable=False) for name in (*FIGURES, *LATENCIES)],
)
Index("ix_usage_hour_hour", usage_hour.c.hour)

usage_error = Table(
    "usage_error",
    metadata,
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("code", _Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_at", _Text, nullable=False),
)
Index("ix_usage_error_hour", usage_error.c.hour)

admin_key = Table(
    "admin_key",
    metadata,
    Column("hash", _Text, primary_key=True),
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", _Text, nullable=False),
)

operator_key = Table(
    "operator_key",
    metadata,
    Column("hash", _Text, primary_key=True),
    Column("created_at", _Text, nullable=False),
)

session = Table(  # of the dashboard; ends with the key that it was opened with
    "session",
    metadata,
    Column("hash", _Text, primary_key=True),  # of the token in the cookie
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE")),  # null: the operator's
    Column("admin_key_hash", ForeignKey("admin_key.hash", ondelete="CASCADE"), index=True),
    Column("operator_key_hash", ForeignKey("operator_key.hash", ondelete="CASCADE"), index=True),
    Column("created_at", _Text, nullable=False),
    Column("used_at", _Text, nullable=False),
)
Index("ix_session_organisation_id", session.c.organisation_id, session.c.used_at)
Index("ix_session_used_at", session.c.used_at)

sent_form = Table(  # forms that create something, so that a second click does not create it twice
    "sent_form",
    metadata,
    Column("session_hash", ForeignKey("session.hash", ondelete="CASCADE"), primary_key=True),
    Column("nonce", _Text, primary_key=True),
)

api_key = Table(
    "api_key",
    metadata,
    Column("hash", _Text, primary_key=True),
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), nullable=False),
    Column("first_n", _Text, nullable=False),
    Column("first_n_folded", _Text, nullable=False),  # lower case: unique ignoring case
    Column("name", _Text, nullable=False),
    Column("description", _Text, nullable=False),
    Column("default_permission", SmallInteger, nullable=False),
    Column("created_at", _Text, nullable=False),
    Column("expires_at", _Text),  # null: never
    Column("last_used_at", _Text),
    Column("revoked_at", _Text),
    UniqueConstraint("organisation_id", "first_n_folded"),
)

knowledge_base = Table(
    "knowledge_base",
    metadata,
    Column("pk", _Key, primary_key=True),
    Column("id", _Text, nullable=False, unique=True),
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", _Text, nullable=False),
    Column("description", _Text, nullable=False),
    Column("number_of_vectors", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),  # of its chunks
    Column("next_chunk_id", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),  # grows with every write of chunks
    Column("removal_revision", BigInteger, nullable=False),  # when a chunk last left a binding
    Column("created_at", _Text, nullable=False),
    Column("updated_at", _Text, nullable=False),
    Column("deleted_at", _Text),  # from then on it is gone for everyone, and its chunks go step by step
    sqlite_autoincrement=True,  # the number of a deleted one never comes back, and with it no chunk key
)

Index(
    "ix_knowledge_base_deleted_at",
    knowledge_base.c.deleted_at,
    sqlite_where=text("deleted_at IS NOT NULL"),
    postgresql_where=text("deleted_at IS NOT NULL"),
)

permission = Table(
    "permission",
    metadata,
    Column("api_key_hash", ForeignKey("api_key.hash", ondelete="CASCADE"), primary_key=True),
    Column("kb_pk", ForeignKey("knowledge_base.pk", ondelete="CASCADE"), primary_key=True, index=True),
    Column("permission", SmallInteger, nullable=False),
)

execution_context = Table(
    "execution_context",
    metadata,
    Column("pk", _Key, primary_key=True),
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), nullable=False),
    Column("id", _Text, nullable=False),
    Column("type", _Text, nullable=False),
    Column("public_key", _Text, nullable=False),
    Column("config", _Text, nullable=False),
    Column("encrypted_secret", _Text),
    Column("key_provider", _Text),
    Column("wrapped_key", _Text),
    Column("name", _Text),  # of a context that was saved under one
    Column("successor", _Text),  # the id of the context that a rotation moves its chunks to
    Column("saved_by", _Text),  # the hash of the API key that saved it first; null if that is not known
    Column("created_at", _Text, nullable=False),
    Column("updated_at", _Text, nullable=False),
    UniqueConstraint("organisation_id", "id"),
    sqlite_autoincrement=True,
)

Index(
    "uq_execution_context_name",
    execution_context.c.organisation_id,
    execution_context.c.name,
    unique=True,
    sqlite_where=text("name IS NOT NULL"),
    postgresql_where=text("name IS NOT NULL"),
)

retired_context = Table(  # outlives the context itself, so that retired keys cannot come back under their id
    "retired_context",
    metadata,
    Column("organisation_id", ForeignKey("organisation.id", ondelete="CASCADE"), primary_key=True),
    Column("context_id", _Text, primary_key=True),
    Column("retired_at", _Text, nullable=False),
)

binding = Table(
    "binding",
    metadata,
    Column("pk", _Key, primary_key=True),
    Column("kb_pk", ForeignKey("knowledge_base.pk", ondelete="CASCADE"), nullable=False),
    # Null if the context or the knowledge base was deleted, and some of the chunks are not yet deleted.
    Column("context_pk", ForeignKey("execution_context.pk", ondelete="SET NULL"), index=True),
    Column("row_bytes", Integer),  # of the first stored index, and so of all; null before that
    Column("name_salt", LargeBinary),  # opaque; null until a client stores one
    UniqueConstraint("kb_pk", "context_pk"),
    sqlite_autoincrement=True,
)

chunk = Table(
    "chunk",
    metadata,
    Column("pk", _Key, primary_key=True, autoincrement=False),
    Column("binding_pk", ForeignKey("binding.pk", ondelete="CASCADE"), nullable=False),
    Column("name", _Text, nullable=False),
    Column("unique_name", LargeBinary),  # the hash of the name, where its writer asked that no other chunk has it
    *[Column(tag, _Text) for tag in TAGS],
    Column("facet_count", Integer, nullable=False),
    # Bytes in other tables, in UTF-8, so that the size of a step is known before it is read.
    Column("facet_bytes", Integer, nullable=False),
    Column("content_bytes", Integer, nullable=False),
    Column("nonce", LargeBinary),
    Column("revision", BigInteger, nullable=False),  # the knowledge base's when the chunk was last written
    Column("created_at", _Text, nullable=False),
    Column("updated_at", _Text, nullable=False),
    # Where its vector is in a block, too; both null: in none. Not a foreign key, as blocks are never numbered again.
    Column("block_pk", BigInteger),
    Column("slot", SmallInteger),
)
Index("ix_chunk_binding_pk", chunk.c.binding_pk, chunk.c.pk)
Index("ix_chunk_revision", chunk.c.binding_pk, chunk.c.revision)
Index(
    "ix_chunk_unsealed",
    chunk.c.binding_pk,
    chunk.c.pk,
    sqlite_where=text("block_pk IS NULL"),
    postgresql_where=text("block_pk IS NULL"),
)
for _time in ("created_at", "updated_at"):
    Index(f"ix_chunk_{_time}", chunk.c.binding_pk, chunk.c[_time], chunk.c.pk)
Index(
    "ix_chunk_name",
    chunk.c.binding_pk,
    Indexed(chunk.c.name),
    sqlite_where=text("name <> ''"),
    postgresql_where=text("name <> ''"),
)
Index(
    "uq_chunk_unique_name",
    chunk.c.binding_pk,
    chunk.c.unique_name,
    unique=True,
    sqlite_where=text("unique_name IS NOT NULL"),
    postgresql_where=text("unique_name IS NOT NULL"),
)
for _tag in TAGS:
    # In SQLite a full index, because it does not use partial indexes under an OR.
    Index(
        f"ix_chunk_{_tag}",
        chunk.c.binding_pk,
        Indexed(chunk.c[_tag]),
        postgresql_where=text(f"{_tag} IS NOT NULL"),
    )

deleted_chunk = Table(
    "deleted_chunk",
    metadata,
    # Chunks that are no longer visible. A large deletion takes effect with these rows, and is completed in steps.
    Column("pk", ForeignKey("chunk.pk", ondelete="CASCADE"), primary_key=True, autoincrement=False),
)

facet = Table(
    "facet",
    metadata,
    # The key of a chunk, but not a foreign key: most rows of all are here, and checking took a third of the time that
    # storing them did. `deletions` deletes them with their chunks.
    Column("chunk_pk", _Key, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("binding_pk", _Key, nullable=False),
    Column("token", _Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_facet_token", facet.c.binding_pk, Indexed(facet.c.token), facet.c.chunk_pk)

content = Table(
    "content",
    metadata,
    Column("pk", ForeignKey("chunk.pk", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("content", _Text, nullable=False),
)

ciphertext = Table(
    "ciphertext",
    metadata,
    Column("pk", ForeignKey("chunk.pk", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("row", LargeBinary, nullable=False),
)

block = Table(
    "block",
    metadata,
    # Vectors of a binding's chunks, encrypted together: an index that clients derive from the chunks. Archives omit it.
    Column("pk", _Key, primary_key=True, autoincrement=False),  # random, so it never comes back
    Column("binding_pk", ForeignKey("binding.pk", ondelete="CASCADE"), nullable=False, index=True),
    Column("sha256", LargeBinary, nullable=False, index=True),  # of the body
    Column("count", Integer, nullable=False),  # of slots
    # A slot is live while its chunk refers to it. Without any, the block is gone for everyone, and its rows go later.
    Column("live_count", Integer, nullable=False),
    Column("live", LargeBinary, nullable=False),  # the live slots as a bitmap
    Column("dead_since", _Text),  # when the first slot died
    Column("stored_bytes", BigInteger, nullable=False),
    # Large values at the end: what precedes them is read without them.
    Column("header", LargeBinary, nullable=False),
    Column("ids", LargeBinary, nullable=False),  # the chunk ids of the slots
    Column("hints", LargeBinary, nullable=False),
)
Index(
    "ix_block_dead",
    block.c.pk,
    sqlite_where=text("live_count = 0"),
    postgresql_where=text("live_count = 0"),
)

block_body = Table(
    "block_body",
    metadata,
    Column("pk", ForeignKey("block.pk", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

shared_index = Table(
    "shared_index",
    metadata,
    # A sealed copy of a local index, opaque to the service. Archives omit it, because clients can make it again.
    Column("pk", _Key, primary_key=True, autoincrement=False),  # random, so it never comes back: the version
    Column("binding_pk", ForeignKey("binding.pk", ondelete="CASCADE")),  # null: gone for everyone, the row goes later
    Column("kind", _Text, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("segments", LargeBinary, nullable=False),  # the SHA-256 of each, in order
    Column("manifest", LargeBinary, nullable=False),
    UniqueConstraint("binding_pk", "kind"),
)

index_segment = Table(
    "index_segment",
    metadata,
    Column("pk", _Key, primary_key=True),
    Column("binding_pk", ForeignKey("binding.pk", ondelete="CASCADE")),  # null: likewise
    Column("kind", _Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("unlisted_since", _Text),  # null: the shared index of its binding and kind lists it
    UniqueConstraint("binding_pk", "kind", "sha256"),
)
Index(
    "ix_index_segment_unlisted_since",
    index_segment.c.unlisted_since,
    sqlite_where=text("unlisted_since IS NOT NULL"),
    postgresql_where=text("unlisted_since IS NOT NULL"),
)

index_segment_body = Table(
    "index_segment_body",
    metadata,
    Column("pk", ForeignKey("index_segment.pk", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("api_key_hash", ForeignKey("api_key.hash", ondelete="CASCADE"), primary_key=True),
    Column("key", _Text, primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("created_at", _Text, nullable=False, index=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("organisation_id", ForeignKey("organisation.id")),  # null: the server as a whole
    Column("at", _Text, nullable=False),
    Column("action", _Text, nullable=False),
    Column("actor", _Text, nullable=False),
    Column("subject", _Text, nullable=False),
    Column("detail", _Text, nullable=False),
    Column("request_id", _Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_audit_organisation_id", audit.c.organisation_id, audit.c.id)
