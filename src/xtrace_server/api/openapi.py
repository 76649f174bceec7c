"""The service's OpenAPI 3.1 document, generated from the routes' declarations.

The server has no documentation pages: any viewer can read `/openapi.json`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_server.auth.guard import PUBLIC, Plane, Rule, requires, rule_of
from xtrace_server.http.bodies import media_types_of
from xtrace_server.http.described import JSON, Description, Parameter, describes, description_of

router = APIRouter()

_SCHEMAS: Final = "#/components/schemas/{name}"
_SECURITY: Final[dict[Plane, list[dict[str, list[str]]]]] = {
    Plane.PUBLIC: [],
    Plane.DATA: [{"apiKey": []}],
    Plane.CONTROL: [{"adminKey": [], "organisation": []}],
    Plane.OPERATOR: [{"operatorKey": []}],
}
_FILTER: Final = {
    "description": "A metadata filter (docs/metadata.md), as an object or as its JSON text; null matches every chunk.",
    "type": ["object", "string", "null"],
}
_CHOSEN_FILTER: Final = {
    "description": "A metadata filter (docs/metadata.md), as an object or as its JSON text; {} matches every chunk.",
    "type": ["object", "string"],
}
# Answers of the HTTP parser and of the envelope around every route, and the answer to a bug.
_ALWAYS: Final = (400, 408, 414, 431, 500, 503)


@router.get("/openapi.json")
@requires(PUBLIC)
@describes(dict[str, Any])
async def openapi(request: Request) -> Response:
    """Returns this document."""
    return Response(request.app.state.openapi, media_type=JSON)


def document(routes: Sequence[APIRoute], version: str) -> bytes:
    """Returns the document as JSON. Raises `LookupError` if a route does not describe itself."""
    types = [type_ for route in routes for type_ in _types(route)]
    schemas, components = msgspec.json.schema_components([*types, wire.Problem], ref_template=_SCHEMAS)
    by_type = {repr(type_): schema for type_, schema in zip([*types, wire.Problem], schemas, strict=True)}
    for component in components.values():
        if "meta_filter" in component.get("properties", {}):
            is_chosen = "meta_filter" in component.get("required", ())
            component["properties"]["meta_filter"] = _CHOSEN_FILTER if is_chosen else _FILTER
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method, by_type)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "XTrace",
            "version": version,
            "description": "An end-to-end encrypted vector database: the service searches what it cannot read. "
            "In MessagePack the strings whose contentEncoding is base64 are binary instead.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _security_schemes()},
    }
    return msgspec.json.encode(whole)


def _types(route: APIRoute) -> Iterator[Any]:
    yield from description_of(route.endpoint).answers
    body = _body_type(route)
    if body is not None:
        yield body


def _operation(route: APIRoute, method: str, schemas: dict[str, Any]) -> dict[str, Any]:
    description, rule, body = description_of(route.endpoint), rule_of(route.endpoint), _body_type(route)
    text = " ".join((route.endpoint.__doc__ or "").split())
    in_path = re.findall(r"\{(\w+)\}", route.path)
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}{route.path}".replace("/", "_").replace("{", "").replace("}", ""),
        "summary": text.partition(".")[0],
        "description": text,
        "security": _SECURITY[rule.plane],
        "parameters": [_path_parameter(name) for name in in_path]
        + [_parameter(one, "query") for one in description.query]
        + [_parameter(one, "header") for one in description.headers],
        "responses": _responses(description, rule, body is not None, bool(set(in_path) - {"org"}), method, schemas),
    }
    if body is not None:
        schema = {} if body is bytes else {"schema": schemas[repr(body)]}
        content = dict.fromkeys(media_types_of(body), schema)
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(
    description: Description, rule: Rule, has_body: bool, names_a_thing: bool, method: str, schemas: dict[str, Any]
) -> dict[str, Any]:
    choices = [schemas[repr(answer)] for answer in description.answers]
    answer = {"schema": choices[0] if len(choices) == 1 else {"anyOf": choices}} if choices else {}
    found: dict[str, Any] = {
        "200": {"description": "Done.", "content": dict.fromkeys(description.media_types, answer)},
    }
    statuses = {*_ALWAYS, *description.statuses}
    if rule.plane is not Plane.PUBLIC:
        statuses |= {401, 429, 404 if rule.plane is Plane.OPERATOR else 403}
    if rule.permission != Permission.NONE:
        statuses.add(404)
    if names_a_thing:
        statuses.add(404)
    if has_body or description.query:
        statuses |= {413, 422}
    if has_body:
        statuses.add(415)
    if method != "GET" and rule.plane is not Plane.PUBLIC:
        statuses.add(507)
    problem = {"content": {wire.PROBLEM_JSON: {"schema": schemas[repr(wire.Problem)]}}}
    for status in sorted(statuses):
        found[str(status)] = {"description": HTTPStatus(status).phrase, **problem}
        if status in (429, 503, 507):
            found[str(status)]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return found


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    return {"name": parameter.name, "in": where, "required": parameter.required, "schema": parameter.schema}


def _security_schemes() -> dict[str, Any]:
    named = {
        "apiKey": wire.API_KEY_HEADER,
        "adminKey": wire.ADMIN_KEY_HEADER,
        "organisation": wire.ORGANISATION_HEADER,
        "operatorKey": wire.OPERATOR_KEY_HEADER,
    }
    return {name: {"type": "apiKey", "in": "header", "name": header} for name, header in named.items()}


def _body_type(route: APIRoute) -> Any:
    """Returns the type of the route's body, or None."""
    found = [getattr(part.call, "__xtrace_body__", None) for part in _all_dependants(route.dependant)]
    return next((type_ for type_ in found if type_ is not None), None)


def _all_dependants(dependant: Dependant) -> Iterable[Dependant]:
    for part in dependant.dependencies:
        yield part
        yield from _all_dependants(part)
