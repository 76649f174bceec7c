"""The database: queries in SQLAlchemy Core, each a function of the connection of an open transaction.

`database` opens it, `schema` defines the tables, `migrations` creates them, and `dialects` is the interface to what
only one kind of database knows, such as `sqlite`. The other modules hold the queries about one subject each.
"""
