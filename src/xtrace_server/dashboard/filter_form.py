"""Converts between a form of conditions and the text of a metadata filter.

The text is what is applied. The form can show a filter whose conditions must all match; anything else, such as `$or`,
exists only in the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from xtrace_core.wire import TAGS

FACETS: Final = "facets"
FIELDS: Final = (*TAGS, FACETS)
TAG_WORDS: Final = {
    "equals": "$eq",
    "does not equal": "$ne",
    "is one of": "$in",
    "is none of": "$nin",
    "begins with": "$begins_with",
    "contains": "$contains",
    "at least": "$gte",
    "at most": "$lte",
    "greater than": "$gt",
    "less than": "$lt",
    "is set": "$exists",
    "is not set": "$exists",
}
FACET_WORDS: Final = {
    "has": "$contains",
    "has all of": "$all",
    "has any of": "$any",
    "has none of": "$none",
    "count is": "$size",
    "is set": "$exists",
    "is not set": "$exists",
}
_LISTS: Final = ("$in", "$nin", "$all", "$any", "$none")
_MAX_CONDITIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the form. Commas separate the values of a list."""

    field: str = "tag1"
    word: str = "equals"
    value: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The operators of the field, in words."""
        return tuple(FACET_WORDS if self.field == FACETS else TAG_WORDS)

    @property
    def needs_value(self) -> bool:
        """Whether the condition needs a value."""
        return self.word not in ("is set", "is not set")


@dataclass(frozen=True, slots=True)
class FilterForm:
    """A filter as text and as conditions, which are None if the form cannot express it."""

    text: str
    conditions: list[Condition] | None


def read(parameters: Mapping[str, str]) -> FilterForm:
    """Returns the filter that a request asks for.

    If the reader has edited the text, it overrides the conditions; `written` is the text before that.
    """
    text = parameters.get("filter", "").strip()
    sent = _sent(parameters)
    if text != parameters.get("written", "").strip() or not sent:
        conditions = parse(text)
        if "add" in parameters and conditions is not None:
            conditions.append(Condition())
        return FilterForm(text, conditions)
    if (number := parameters.get("remove", "")).isascii() and number.isdigit() and len(number) < 4:
        sent = [one for i, one in enumerate(sent, 1) if i != int(number)]
    elif "add" in parameters:
        sent.append(Condition())
    return FilterForm(write(sent), sent[:_MAX_CONDITIONS])


def write(conditions: list[Condition]) -> str:
    """Returns the text of a filter in which all conditions must match; conditions without a value are omitted."""
    terms = [(one.field, *_operator(one)) for one in conditions if one.value or not one.needs_value]
    if not terms:
        return ""
    if len({(field, name) for field, name, _ in terms}) < len(terms):
        return _json({"$and": [{field: _operand(field, {name: value})} for field, name, value in terms]})
    merged: dict[str, dict[str, Any]] = {}
    for field, name, value in terms:
        merged.setdefault(field, {})[name] = value
    return _json({field: _operand(field, operators) for field, operators in merged.items()})


def parse(text: str) -> list[Condition] | None:
    """Returns the conditions of a filter's text; None if they cannot express it, or it is not a filter."""
    if not text or text == "null":
        return []
    try:
        tree = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return None
    parts = tree["$and"] if set(tree) == {"$and"} else [tree]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    found = [_condition(*term) for part in parts for term in _terms(part)]
    complete = [one for one in found if one is not None]
    return complete if len(complete) == len(found) <= _MAX_CONDITIONS else None


def _sent(parameters: Mapping[str, str]) -> list[Condition]:
    found = []
    for i in range(1, _MAX_CONDITIONS + 1):
        if f"f{i}" not in parameters:
            break
        field, word = parameters[f"f{i}"], parameters.get(f"o{i}", "")
        one = Condition(field if field in FIELDS else "tag1", word, parameters.get(f"v{i}", ""))
        # A user who changes the field keeps a word that belongs to the other kind.
        found.append(one if word in one.words else Condition(one.field, one.words[0], one.value))
    return found


def _operator(one: Condition) -> tuple[str, Any]:
    name = (FACET_WORDS if one.field == FACETS else TAG_WORDS)[one.word]
    if name == "$exists":
        return name, one.word == "is set"
    if name in _LISTS:
        return name, [value.strip() for value in one.value.split(",") if value.strip()]
    if name == "$size":
        is_number = one.value.isascii() and one.value.isdigit() and len(one.value) < 10
        return name, int(one.value) if is_number else one.value
    return name, one.value


def _operand(field: str, operators: dict[str, Any]) -> Any:
    """The shortest way to write the operators of a field."""
    short = "$contains" if field == FACETS else "$eq"
    return operators[short] if set(operators) == {short} else operators


def _terms(part: dict[str, Any]) -> list[tuple[str, str, Any]]:
    terms = []
    for field, operand in part.items():
        short = "$contains" if field == FACETS else "$eq"
        operators = operand if isinstance(operand, dict) else {short: operand}
        terms += [(field, name, value) for name, value in operators.items()] or [(field, "", None)]
    return terms


def _condition(field: str, name: str, value: Any) -> Condition | None:
    if field not in FIELDS:
        return None
    words = FACET_WORDS if field == FACETS else TAG_WORDS
    if name == "$exists" and isinstance(value, bool):
        return Condition(field, "is set" if value else "is not set")
    word = next((word for word, operator in words.items() if operator == name), None)
    if word is None:
        return None
    if name in _LISTS:
        is_plain = isinstance(value, list) and all(isinstance(one, str) and one.strip() == one != "" for one in value)
        return Condition(field, word, ", ".join(value)) if is_plain and not any("," in one for one in value) else None
    if name == "$size":
        return Condition(field, word, str(value)) if isinstance(value, int) and not isinstance(value, bool) else None
    return Condition(field, word, value) if isinstance(value, str) and value else None


def _json(value: Any) -> str:
    # With spaces, as people write it.
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
