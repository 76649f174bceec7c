"""The database: SQLAlchemy Core over SQLite. Every function takes the connection of a transaction that is
open.

`database` opens it, `schema` defines the tables and `migrations` makes them; the other modules each hold the
statements about one subject. Nothing here knows HTTP.
"""
