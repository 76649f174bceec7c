"""A reader for each kind of file: `read(source)` yields its sections, or raises `UnusableFile`.

Readers run in a process of their own (`reading_process.py`), which bounds their time and memory, so they can leave that
to others. Each imports its library itself.
"""
