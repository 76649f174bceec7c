"""Reading stored chunks under a context."""
