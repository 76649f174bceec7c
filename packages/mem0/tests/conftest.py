"""Fixtures of these tests, and a folder for mem0, which reads its place when it is imported."""

import os
import tempfile

FOLDER = tempfile.TemporaryDirectory(prefix="mem0")
os.environ["MEM0_DIR"] = FOLDER.name

pytest_plugins = ["support.frameworks"]
