"""The metadata of a record: any JSON object, which is checked, copied, and addressed by paths.

A path is the sequence of keys to a value, joined with dots: `author.name` in `{"author": {"name": "Ada"}}`. It leads
through objects, not into lists. A null value counts as missing.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

import msgspec
import numpy as np

from xtrace_sdk.errors import InvalidRecord

MAX_DEPTH: Final = 32
"""The maximum nesting depth of lists and objects."""
MAX_BYTES: Final = 1 << 20
"""Maximum size of the metadata of one record, as JSON."""

MAX_NUMBER_BITS: Final = 1024
"""Maximum size of a whole number; every finite float is smaller."""

MetaData = dict[str, Any]


def checked(metadata: Any) -> MetaData:
    """Returns a copy of the metadata in plain JSON types. Raises `InvalidRecord` for anything that is not JSON.

    Tuples become lists, Python dates and times become ISO 8601 strings, and NumPy numbers become Python numbers.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidRecord(f"its metadata is {_kind(metadata)}, expected an object")
    copied: MetaData = json_value(metadata)
    paths: set[str] = set()
    for path, _ in flat(copied):
        if path in paths:
            raise InvalidRecord("two keys in its metadata have the same path, like a.b and b inside a")
        paths.add(path)
    return copied


def json_value(value: Any, depth: int = 0) -> Any:
    """Returns a copy of a value in plain JSON types. Raises `InvalidRecord`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # the text, even of an enumeration's member
    if isinstance(value, int):
        if value.bit_length() > MAX_NUMBER_BITS:
            raise InvalidRecord(f"its metadata has a whole number beyond 2^{MAX_NUMBER_BITS}")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRecord("its metadata has a number that is not finite, which JSON does not allow")
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, np.generic):
        return json_value(value.item(), depth)
    if depth >= MAX_DEPTH:
        raise InvalidRecord(f"its metadata nests deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InvalidRecord("its metadata has a key that is not a text")
        return {str.__str__(key): json_value(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(one, depth + 1) for one in value]
    raise InvalidRecord(
        f"its metadata has {_kind(value)}, expected JSON: strings, numbers, booleans, null, lists, objects"
    )


def as_text(metadata: MetaData) -> str:
    """Returns the checked metadata as JSON. Raises `InvalidRecord` if it is too long or cannot be encoded."""
    try:
        encoded = msgspec.json.encode(metadata)
        text = encoded.decode()
    except UnicodeEncodeError:  # its attributes contain the text
        raise InvalidRecord(
            "its metadata contains unpaired surrogates, expected text that can be encoded as UTF-8"
        ) from None
    if len(encoded) > MAX_BYTES:
        raise InvalidRecord(f"its metadata has {len(encoded)} bytes as JSON, at most {MAX_BYTES} are allowed")
    return text


def from_text(text: str) -> MetaData:
    """The inverse of `as_text`. Raises `ValueError` for anything else."""
    return msgspec.json.decode(text, type=dict[str, Any])


def flat(metadata: MetaData, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every path with its value, and objects before the values inside them."""
    for key, value in metadata.items():
        path = before + key
        yield path, value
        if isinstance(value, dict):
            yield from flat(value, path + ".")


def at_path(metadata: MetaData, path: str) -> Any:
    """Returns the value at a path; None if it is missing."""
    if path in metadata:
        return metadata[path]
    end = path.find(".")
    while end >= 0:
        inner = metadata.get(path[:end])
        if isinstance(inner, dict) and (found := at_path(inner, path[end + 1 :])) is not None:
            return found
        end = path.find(".", end + 1)
    return None


def _kind(value: Any) -> str:
    return "null" if value is None else f"a value of type {type(value).__name__}"
