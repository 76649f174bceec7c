"""Reads what a server's database stores of one chunk from the file itself, as a thief of the disk would."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from xtrace_server.storage.schema import chunk_pk


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """The stored columns of one chunk."""

    name: str
    tags: list[str | None]
    content: str
    ciphertext: bytes


def stored_chunk(database: Path, kb_id: str, chunk_id: int) -> StoredBytes:
    """Reads the columns of one chunk without the server and without a key."""
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    try:
        (kb_pk,) = connection.execute("SELECT pk FROM knowledge_base WHERE id = ?", (kb_id,)).fetchone()
        name, *tags, content, row = connection.execute(
            "SELECT name, tag1, tag2, tag3, tag4, tag5, content.content, ciphertext.row FROM chunk"
            " JOIN content USING (pk) JOIN ciphertext USING (pk) WHERE chunk.pk = ?",
            (chunk_pk(kb_pk, chunk_id),),
        ).fetchone()
    finally:
        connection.close()
    return StoredBytes(name, tags, content, row)
