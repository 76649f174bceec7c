"""What a chunk is made of: its content, its metadata, its vector. Nothing here knows a context."""
