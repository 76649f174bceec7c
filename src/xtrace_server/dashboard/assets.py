"""The files that pages load: styles, script, htmx. Their URLs contain a hash, so browsers can cache them forever."""

import hashlib
from functools import cache
from importlib import resources
from typing import Final

MEDIA_TYPES: Final = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HASH_CHARACTERS: Final = 16


@cache
def read(name: str) -> bytes:
    """Returns a file. Raises `KeyError` for any other name."""
    return resources.files("xtrace_server.dashboard").joinpath("static", _known(name)).read_bytes()


@cache
def version(name: str) -> str:
    """Returns the beginning of a file's SHA-256. Raises `KeyError` for any other name."""
    return hashlib.sha256(read(name)).hexdigest()[:_HASH_CHARACTERS]


def path(name: str) -> str:
    """Returns the path that a file is served at."""
    return f"/static/{version(name)}/{name}"


def _known(name: str) -> str:
    if name not in MEDIA_TYPES:
        raise KeyError(name)
    return name
