"""The parts of a chunk: its content, its metadata, its vector. Independent of contexts."""
