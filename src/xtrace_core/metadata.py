"""The metadata of a chunk: five tags and a list of facets, checked and normalised.

After that, a field that is not set is absent (`UNSET`); facets have no duplicates, keep their order and are never an
empty list. The language that selects chunks by their metadata is in `xtrace_core.metadata_filter`.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from xtrace_core.wire import TAGS, MetaData

_FIELDS: Final = (*TAGS, "facets")


class InvalidMetaData(ValueError):
    """Metadata with an unknown field or a value of the wrong type; the message names it."""


def parse_meta_data(value: Any) -> MetaData:
    """Parses and normalises the metadata of a new chunk; None means that no field is set. Raises `InvalidMetaData`."""
    return normalised(parse_patch({} if value is None else value))


def parse_patch(value: Any) -> MetaData:
    """Parses a change of metadata: None removes a field, an absent field stays. Raises `InvalidMetaData`."""
    try:
        meta_data = msgspec.convert(value, MetaData)
    except msgspec.ValidationError as error:
        raise InvalidMetaData(f"meta_data: {error}") from None
    for field in _FIELDS:
        value = getattr(meta_data, field)
        if value is UNSET or value is None:
            continue
        stored = _plain(value)
        setattr(meta_data, field, stored)
        # Of a text, whether it contains the character; of a list, whether one of its texts does.
        if "\0" in stored if isinstance(stored, str) else any("\0" in text for text in stored):
            raise InvalidMetaData(f"meta_data: {field} has a NUL character, which is not allowed")
    return meta_data


def _plain(value: Any) -> Any:
    """Converts subclasses of `str`, such as NumPy's, to `str`: msgspec reads them but does not write them."""
    if isinstance(value, list):
        return [_plain(text) for text in value]
    return str(value) if isinstance(value, str) else value


def normalised(meta_data: MetaData | None) -> MetaData:
    """Returns the metadata as a chunk stores it: without nulls, and with facets deduplicated in their order."""
    kept = MetaData()
    if meta_data is not None:
        for tag in TAGS:
            # The empty string is a valid value of a tag; only null means "not set".
            value = getattr(meta_data, tag)
            if value is not None and value is not UNSET:
                setattr(kept, tag, value)
        kept.facets = unique(meta_data.facets or ()) or UNSET
    return kept


def unique(facets: Iterable[str]) -> list[str]:
    """The facets in order of first occurrence."""
    return list(dict.fromkeys(facets))
