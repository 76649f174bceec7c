"""Finds phrases that only a translator would write, in docs, messages and docstrings; `scripts/check` runs it.

The list keeps the worst from coming back. It does not replace reading a page aloud.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PHRASES = {
    r"\bis no (?:file|folder|number|token|JSON|object|text|terminal)\b": "is not a …",
    r"\bthere (?:is|are) not\b": "does not exist",
    r"\bas many of each\b": "the counts must match",
    r"\b[a-z]+s? of ours\b": "native …",
    r"\bto reach: ": "target: ",
    r"\bin good (?:order)\b": "cleanly",
    r"\bso many at a time\b": "in batches of `size`",
    r"\bno way back\b": "cannot be undone",
    r"\bnobody (?:watches|guesses|is there)\b": "when not interactive; hard to guess",
    r"\bholds no\b": "does not contain",
    r"\btakes the place of\b": "replaces",
    r"\bhonest limits?\b": "limitations",
    r"\bshown this once\b": "will not be shown again",
    r"\bgive it rights\b": "grant access",
    r"\btells everybody\b": "public part",
    r"\blongest silence\b": "maximum idle time",
    r"\bis it XTrace's\b": "is this an XTrace server?",
    r"\b(?:no|any|every)body\b": "no one, anyone, everyone",
    r"\bwhoever\b": "anyone who",
    r"\banew\b": "again, from the start",
    r"\bin (?:the )?clear[.,;:]": "in plaintext",
    r"\bgives? back\b|\bgiven back\b": "returns",
    r"\b(?:is|are|be) begun again\b": "is retried",
    r"\bof (?:your|one's|ones) own\b": "your own …",
    r"\bshall not\b": "must not",
}
"""Each phrase, and what to write instead."""
FILES = (
    "src/*.py",
    "docs/*.md",
    "packages/*.py",
    "packages/*.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
)


def findings() -> list[str]:
    """`file:line: "phrase", write "…"` for each phrase that is found."""
    listed = subprocess.run(
        ["/usr/bin/env", "git", "ls-files", *FILES], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    found = []
    for name in listed.split():
        path = ROOT / name
        if not path.exists():
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            for phrase, instead in PHRASES.items():
                if match := re.search(phrase, line, re.IGNORECASE):
                    found.append(f'{name}:{number}: "{match[0]}", write "{instead}"')
    return found


if __name__ == "__main__":
    sys.exit("\n".join(findings()) or 0)
