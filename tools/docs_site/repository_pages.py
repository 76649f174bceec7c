"""Pages that are files outside docs/, with links changed to where each file is in the site."""

import posixpath
import re
from pathlib import Path
from typing import Final

PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "examples/README.md": "examples/index.md",
    "examples/private_chat/README.md": "examples/private_chat.md",
    "examples/private_chat_langchain/README.md": "examples/private_chat_langchain.md",
    "examples/agent_memory/README.md": "examples/agent_memory.md",
    "examples/fastapi_service/README.md": "examples/fastapi_service.md",
}
"""Where each file of the repository is in the site."""
_LINK: Final = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def pages(root: Path) -> dict[str, str]:
    """Returns the text of each page, by its path in the site. An example shows its programs below its README."""
    found = {}
    for source, page in PAGES.items():
        text = with_links((root / source).read_text("utf-8"), source)
        programs = sorted((root / source).parent.glob("*.py")) if source.startswith("examples/") else []
        for program in programs:
            text += f"\n## {program.name}\n\n```python\n{program.read_text('utf-8')}```\n"
        found[page] = text
    return found


def with_links(text: str, source: str) -> str:
    """Returns the text of a file of the repository, with links as they are in the site."""
    here = posixpath.dirname(_page(source))

    def in_site(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(_page(target), here or ".")

    return _LINK.sub(in_site, text)


def _page(path: str) -> str:
    """Returns where a file, or the README of a folder, is in the site."""
    return PAGES.get(path) or PAGES.get(f"{path}/README.md") or path.removeprefix("docs/")
