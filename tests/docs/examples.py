"""The Python examples of documents."""

import re
from pathlib import Path

from tools.page_examples import examples as examples
from tools.page_examples import run as run

ROOT = Path(__file__).parents[2]
_SECTION = re.compile(r"^## (?P<name>[^\n]+)\n\n```python\n(?P<code>.*?)```", re.DOTALL | re.MULTILINE)


def sections(document: Path) -> dict[str, str]:
    """The one example of each section of a page."""
    return {match["name"]: match["code"] for match in _SECTION.finditer(document.read_text())}
