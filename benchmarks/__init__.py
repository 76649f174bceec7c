"""Benchmarks: `python -m benchmarks` prints a table of medians; see docs/performance.md."""
