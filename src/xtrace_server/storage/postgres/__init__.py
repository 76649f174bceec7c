"""Everything that only PostgreSQL knows."""
