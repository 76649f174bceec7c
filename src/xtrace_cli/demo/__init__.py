"""What `xtrace demo` does."""
