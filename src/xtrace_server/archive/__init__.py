"""Archives: rows of tables in one tar file, written and read as streams; docs/formats.md describes them byte by byte.

Independent of databases: `storage.archiving` moves rows between a database and an archive.
"""
