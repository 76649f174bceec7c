"""Everything that only SQLite knows."""
