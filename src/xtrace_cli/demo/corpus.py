"""The demonstration's default text: Python's language reference, as files."""

import re
from pathlib import Path

from xtrace_sdk.errors import InaccessibleFile


def python_reference(folder: Path) -> Path:
    """Writes the topics of the language reference, which CPython includes for `help()`, and returns their folder.

    Existing files stay. Raises `InaccessibleFile`.
    """
    from pydoc_data.topics import topics

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in topics.items():
            path, content = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.txt", text.encode()
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
    except OSError as error:
        raise InaccessibleFile(f"Python's reference cannot be written to {folder}: {error.strerror}") from None
    return folder.resolve()
