"""The database: queries in SQLAlchemy Core, each a function of the connection of an open transaction.

`database` opens it, `schema` defines the tables, `migrations` creates them, and `dialects` is the interface to the code
for one kind of database, such as `sqlite`. Each of the other modules has the queries on one subject.
"""
