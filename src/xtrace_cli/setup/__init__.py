"""What `xtrace init` does, step by step."""
