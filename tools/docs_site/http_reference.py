"""The reference of the HTTP contract, written from the server's own OpenAPI document."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tools.release import version
from xtrace_server.api import openapi
from xtrace_server.app import all_routes

_INTRODUCTION: Final = """# HTTP reference

Every call of a server, as its `/openapi.json` describes it. Bodies and answers are JSON; where a call offers it,
MessagePack. An error is a problem document (RFC 9457): [Errors](../errors.md) lists them.

| header | |
|---|---|
| `X-API-Key` | the API key of a client |
| `Authorization: Bearer` | the admin key of an organisation, or the operator key |
"""
_SECTIONS: Final = (
    ("/v1/compute", "Search"),
    ("/v1/chunk", "Chunks"),
    ("/v1/exec_context", "Execution contexts"),
    ("/api/v1/kbs", "Knowledge bases"),
    ("/api/v1/keys", "API keys"),
    ("/api/v1/operator", "Operator"),
    ("/api/v1/", "Organisation"),
    ("/", "Server"),
)
"""The section of a path: the first whose beginning it has."""
Operation = Mapping[str, Any]


def page() -> str:
    """Returns the page, in Markdown."""
    document = json.loads(openapi.document(all_routes(), version()))
    sections: dict[str, list[str]] = {title: [] for _, title in _SECTIONS}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            sections[_section(path)].append(_entry(method, path, operation))
    parts = (f"\n## {title}\n\n" + "\n".join(entries) for title, entries in sections.items() if entries)
    return _INTRODUCTION + "".join(parts) + _schemas(document["components"]["schemas"])


def _section(path: str) -> str:
    return next(title for beginning, title in _SECTIONS if path.startswith(beginning))


def _entry(method: str, path: str, operation: Operation) -> str:
    lines = [f"### `{method.upper()} {path}`", "", operation["description"], ""]
    lines += _table(("parameter", "in", "type"), map(_parameter, operation.get("parameters", [])))
    lines += [f"Body: {_contents(operation['requestBody'])}.", ""] if "requestBody" in operation else []
    lines += [f"Answers: {', '.join(_answers(operation['responses']))}.", ""]
    return "\n".join(lines)


def _parameter(one: Mapping[str, Any]) -> tuple[str, str, str]:
    name = f"`{one['name']}`" + (" (required)" if one["required"] else "")
    return name, one["in"], _type(one["schema"])


def _answers(responses: Mapping[str, Any]) -> Iterable[str]:
    errors = [status for status in responses if not status.startswith("2")]
    for status in sorted(set(responses) - set(errors)):
        contents = _contents(responses[status])
        yield f"{status} {contents}".strip()
    if errors:
        yield f"errors {', '.join(sorted(errors))}"


def _contents(described: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{_type(content.get('schema', {}))} (`{kind}`)" for kind, content in described.get("content", {}).items()
    )


def _schemas(schemas: Mapping[str, Any]) -> str:
    lines = ["", "## Types", ""]
    for name in sorted(schemas):
        schema = schemas[name]
        lines += [f"### {name} {{ #type-{name.lower()} }}", ""]
        if "properties" not in schema:
            lines += [_type(schema), ""]
            continue
        required = schema.get("required", [])
        lines += _table(
            ("field", "type"),
            (
                (f"`{field}`" + (" (required)" if field in required else ""), _type(described))
                for field, described in schema["properties"].items()
            ),
        )
    return "\n".join(lines)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    written = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *written, ""] if written else []


def _type(schema: Mapping[str, Any]) -> str:
    """Returns what a value may be, in words; a named type is a link to its entry."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#type-{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(map(_type, schema[key]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kinds = schema.get("type", "any value")
    said = " or ".join(kinds if isinstance(kinds, list) else [kinds])
    if schema.get("contentEncoding"):
        said += f" ({schema['contentEncoding']})"
    if "prefixItems" in schema:
        return f"[{', '.join(map(_type, schema['prefixItems']))}]"
    return f"{said} of {_type(schema['items'])}" if schema.get("items") else said
