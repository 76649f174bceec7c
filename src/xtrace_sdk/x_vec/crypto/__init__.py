"""Where programs find the key providers."""
