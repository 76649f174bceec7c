"""Resources: each knowledge base, and each of its complete records."""

from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from xtrace_cli.documents.records import FILE
from xtrace_cli.mcp.access import Access
from xtrace_sdk.errors import RecordNotFound

PREFIX: Final = "xtrace://knowledge-bases/"
TEMPLATE: Final = f"{PREFIX}{{name}}/records/{{id}}"
MIME_TYPE: Final = "application/json"
MAX_URI: Final = 16_384


class UnknownResource(Exception):
    """The address is not one of these resources."""


def kb_uri(name: str) -> str:
    """The address of a knowledge base."""
    return PREFIX + quote(name, safe="")


def record_uri(kb_name: str, record_id: str) -> str:
    """The address of a record."""
    return f"{kb_uri(kb_name)}/records/{quote(record_id, safe='', errors='surrogatepass')}"


async def read(access: Access, uri: str) -> str:
    """The resource at an address, as JSON.

    Raises `UnknownResource`, `RecordNotFound`, and what `Access.collection` and the calls raise.
    """
    parts = uri.removeprefix(PREFIX).split("/")
    if len(uri) > MAX_URI or not uri.startswith(PREFIX) or (len(parts) != 1 and parts[1:-1] != ["records"]):
        raise UnknownResource
    name = unquote(parts[0])
    if name not in access.names:
        raise UnknownResource
    found = await (_knowledge_base(access, name) if len(parts) == 1 else _record(access, name, unquote(parts[-1])))
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


async def _knowledge_base(access: Access, name: str) -> dict[str, Any]:
    collection = await access.collection(name)
    return {
        "name": name,
        "kb_id": collection.kb_id,
        "records": await collection.count(),
        "files": await collection.count({FILE: {"$exists": True}}),
        "memories": await collection.count({"kind": "memory"}),
    }


async def _record(access: Access, name: str, record_id: str) -> dict[str, Any]:
    records = await (await access.collection(name)).get([record_id])
    if not records:
        raise RecordNotFound("the knowledge base does not have this record")
    record = records[0]
    metadata = {field: value for field, value in record.metadata.items() if field != FILE}
    return {"id": record.id, "text": record.text, "metadata": metadata}
