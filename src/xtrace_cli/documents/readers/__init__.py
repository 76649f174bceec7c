"""A reader for each kind of file: `read(source)` yields its sections, or raises `UnusableFile`.

Readers run in a separate process (`reading_process.py`), which limits their time and memory, so they need not. Each
imports its own library.
"""
