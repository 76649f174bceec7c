"""Private metadata: the service gets keyed hashes of these fields, and the encrypted content has their values.

Equal values of one field have equal hashes within a context, so the service can test equality, but nothing else
(docs/formats.md, "Private metadata"). Filters contain plaintext values, which are translated here; conditions other
than equality are rejected before anything is sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

import msgspec

from xtrace_core import metadata_filter
from xtrace_core.metadata_filter import FACET_OPERATORS
from xtrace_core.wire import TAGS
from xtrace_sdk.arguments import MetaFilter, OwnCheck
from xtrace_sdk.errors import ContentTampered, InvalidArgument, InvalidFilter, InvalidMetaData, NotOnPrivateField

FIELDS: Final = (*TAGS, "facets")
"""The metadata fields, any of which may be private; `facets` counts as one."""

PrivateMetaData = Annotated[bool | Iterable[str], OwnCheck]
"""The private fields: True for all, False for none, or their names."""

MetaData = dict[str, Any]

_MARK: Final = "#"
_OPERATORS: Final = {
    **dict.fromkeys(TAGS, ("$eq", "$ne", "$in", "$nin", "$exists")),
    "facets": FACET_OPERATORS,
}
"""The operators that hashes support."""


class Hiding(Protocol):
    """The required part of an execution context."""

    @property
    def private_metadata(self) -> tuple[str, ...]: ...
    def pseudonym(self, purpose: str, *values: str) -> str: ...


def private_fields(chosen: PrivateMetaData) -> tuple[str, ...]:
    """Returns the names of the private fields, in their usual order. Raises `InvalidArgument` for other names."""
    if isinstance(chosen, bool):
        return FIELDS if chosen else ()
    names = None if isinstance(chosen, str) or not isinstance(chosen, Iterable) else list(chosen)
    if names is None or any(name not in FIELDS for name in names):
        what = type(chosen).__name__ if names is None else ", ".join(str(name)[:64] for name in names[:10])
        raise InvalidArgument(f"private_metadata is {what}, expected True, or a list of some of {', '.join(FIELDS)}")
    return tuple(field for field in FIELDS if field in names)


def check_private(context: Hiding, chosen: PrivateMetaData | None) -> None:
    """Raises `InvalidArgument` if the context has different private fields; None accepts any."""
    if chosen is not None and private_fields(chosen) != context.private_metadata:
        got, expected = (", ".join(fields) or "none" for fields in (private_fields(chosen), context.private_metadata))
        raise InvalidArgument(
            f"private_metadata is {got}, expected {expected} as fixed when the execution context was created"
        )


# Metadata


def hidden_meta_data(context: Hiding, meta_data: Mapping[str, Any]) -> MetaData:
    """Returns checked metadata, or a change of it, for the service, with hashes as values of private fields.

    An empty string stays empty, and None (which removes a field) stays None. Raises `InvalidMetaData` for text that
    cannot be encoded as UTF-8.
    """
    try:
        return {
            field: _hidden(context, field, value) if field in context.private_metadata else value
            for field, value in meta_data.items()
        }
    except UnicodeEncodeError:  # its attributes hold the text
        raise InvalidMetaData(
            "meta_data contains unpaired surrogates in a private field, expected text that can be encoded as UTF-8"
        ) from None


def private_part(context: Hiding, meta_data: Mapping[str, Any]) -> MetaData | None:
    """Returns the set private fields with their values, for the encrypted content; None if there are none."""
    return {field: value for field, value in meta_data.items() if field in context.private_metadata} or None


def clear_meta_data(
    context: Hiding, stored: Mapping[str, Any], private: Mapping[str, Any] | None, shown: Iterable[str] = FIELDS
) -> MetaData:
    """Returns the metadata of a stored chunk with its plaintext values, for the fields in `shown`.

    `stored` are these fields from the service, `private` those in the chunk's content. Raises `ContentTampered` if the
    service's hashes do not match the content's values.
    """
    fields = [field for field in FIELDS if field in shown]
    secret = [field for field in fields if field in context.private_metadata]
    values = {field: value for field, value in (private or {}).items() if field in secret}
    hidden = hidden_meta_data(context, values)
    wrong = [field for field in secret if stored.get(field) != hidden.get(field)]
    if wrong:
        raise ContentTampered(
            f"its {' and '.join(wrong)} on the service does not match the values in its content: it was changed "
            "there, or written by other software; do not trust the server's copy"
        )
    clear = {**stored, **values}
    return {field: clear[field] for field in fields if field in clear}


_CONFIRMING: Final = ("index", "nonce", "updated_at")
"""The fields with which a distance is confirmed."""


class Projection:
    """The requested fields of chunks, and the fields to fetch for them, because private metadata is in the content."""

    __slots__ = ("_asked", "_fields", "_only_to_confirm", "fetched", "read")

    def __init__(
        self, context: Hiding, asked: Sequence[str], is_filtered: bool = False, is_confirmed: bool = False
    ) -> None:
        """If it `is_filtered`, all metadata is fetched and read, so that the filter can be checked.

        If it `is_confirmed`, the encrypted vectors are fetched, so that distances can be checked.
        """
        self._asked = asked
        self._fields = FIELDS if "meta_data" in asked else tuple(field for field in FIELDS if field in asked)
        self.read = FIELDS if is_filtered else self._fields
        """The metadata fields to decrypt."""
        self.fetched = list(asked)
        if is_filtered and "meta_data" not in asked:
            self.fetched.append("meta_data")
        if "chunk_content" not in asked and any(field in context.private_metadata for field in self.read):
            self.fetched.append("chunk_content")
        self._only_to_confirm = {field for field in _CONFIRMING if is_confirmed and field not in asked}
        self.fetched += sorted(self._only_to_confirm)

    def of(self, chunk: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the requested fields of a fetched and decrypted chunk."""
        needless = {
            "nonce",
            *self._only_to_confirm,
            *({"chunk_content"} - set(self._asked)),
            *(() if self._fields else ("meta_data",)),
        }
        shown = {key: value for key, value in chunk.items() if key not in needless}
        if "meta_data" in shown:
            shown["meta_data"] = {field: value for field, value in shown["meta_data"].items() if field in self._fields}
        return shown


# Filters and sorting


def hidden_filter(context: Hiding, meta_filter: MetaFilter | None) -> Any:
    """Translates a plaintext filter (an object, its JSON text, or None) for the service.

    Raises `InvalidFilter`, and `NotOnPrivateField` for operators other than equality on a private field.
    """
    try:
        metadata_filter.parse_filter(meta_filter)
        if not context.private_metadata or meta_filter is None:
            return meta_filter
        parsed = msgspec.json.decode(meta_filter) if isinstance(meta_filter, str) else meta_filter
        return None if parsed is None else _hidden_filter(context, parsed)
    except metadata_filter.InvalidFilter as error:
        raise InvalidFilter(str(error)) from None
    except UnicodeEncodeError:  # its attributes hold the text
        raise InvalidFilter(
            "meta_filter contains unpaired surrogates, expected text that can be encoded as UTF-8"
        ) from None


def check_sortable(context: Hiding, sort_by: str) -> None:
    """Raises `NotOnPrivateField` if the service does not have the values to sort by."""
    if sort_by in context.private_metadata:
        raise NotOnPrivateField(
            f"sort_by is {sort_by}, which is private in this context: the service has only keyed hashes of its "
            "values, which cannot be sorted; sort by another field, or sort the results"
        )


def _hidden_filter(context: Hiding, meta_filter: Mapping[str, Any]) -> dict[str, Any]:
    hidden: dict[str, Any] = {}
    for key, operand in meta_filter.items():
        if key == "$not":
            hidden[key] = _hidden_filter(context, operand)
        elif key in ("$and", "$or", "$nor"):
            hidden[key] = [_hidden_filter(context, part) for part in operand]
        elif key not in context.private_metadata:
            hidden[key] = operand
        elif isinstance(operand, str):
            hidden[key] = _hidden(context, key, operand)
        else:
            hidden[key] = {name: _operand(context, key, name, value) for name, value in operand.items()}
    return hidden


def _operand(context: Hiding, field: str, operator: str, value: Any) -> Any:
    if operator not in _OPERATORS[field]:
        raise NotOnPrivateField(
            f"{operator} on {field}: {field} is private in this context, so the service has only keyed hashes of "
            f"its values; expected one of {', '.join(_OPERATORS[field])}"
        )
    return _hidden(context, field, value)


# Hashes


def _hidden(context: Hiding, field: str, value: Any) -> Any:
    """Returns the hash of a value, or of each value in a list; anything else (None, numbers, booleans) unchanged."""
    if isinstance(value, str):
        return _hash(context, field, value)
    if isinstance(value, Sequence):
        return [_hash(context, field, one) for one in value]
    return value


def _hash(context: Hiding, field: str, value: str) -> str:
    return value and _MARK + context.pseudonym("private metadata", field, value)
