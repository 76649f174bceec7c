"""The routes of the HTTP contract. A route decodes, calls an operation, and encodes."""
