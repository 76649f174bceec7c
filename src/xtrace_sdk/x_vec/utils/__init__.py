"""Where programs find the execution context."""
