"""What `tools/release` does, step by step."""
