"""Checks the server, its clock, and the rights of the keys."""

import asyncio
import email.utils
import hashlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

import xtrace_sdk
from xtrace_cli.diagnosis.findings import Finding
from xtrace_cli.options.connection import Connection, run_with
from xtrace_core.permissions import Permission
from xtrace_sdk.errors import KnowledgeBaseNotFound, NotFound, XTraceError

if TYPE_CHECKING:
    from xtrace_sdk.http.transport import Answer
    from xtrace_sdk.service.integration import XTraceIntegration

_SKEW_S: Final = 30.0
_MAX_BYTES: Final = 4 << 20
_RIGHTS: Final = {
    Permission.NONE: "nothing",
    Permission.READ: "read",
    Permission.WRITE: "read and write",
    Permission.DELETE: "read, write and delete",
}


class _Info(msgspec.Struct):
    version: str


class _Description(msgspec.Struct):
    """The fields of a server's description of itself that the check uses."""

    info: _Info


def server(connection: Connection, url: str) -> Iterator[Finding]:
    """Checks whether the server answers, its version, and its clock. Raises `NetworkError`."""
    ca_file = connection.get("ca_file")
    answer = asyncio.run(_described(url, None if ca_file is None else str(ca_file.path)))
    source = connection.get("api_url")
    where = f"{url} ({source.source.label})" if source is not None else url
    try:
        version = msgspec.json.decode(answer.body, type=_Description).info.version
    except (msgspec.DecodeError, UnicodeDecodeError):
        yield Finding(
            "server",
            "warning",
            f"{where} answers with status {answer.status}, but does not identify itself as an XTrace server",
            "check the address: is this an XTrace server?",
        )
    else:
        own = xtrace_sdk.__version__
        differs = f"this client is {own}: use the same version where you can" if version != own else ""
        yield Finding("server", "warning" if differs else "ok", f"{where} answers, version {version}", differs)
    yield from _clock(answer)


def rights(connection: Connection, kb: str) -> Iterator[Finding]:
    """Checks what the keys may do, and whether the knowledge base exists. Raises what the calls raise."""
    integration = connection.integration(("org_id", "api_key"), may_use=("admin_key",))
    yield from run_with(integration, lambda xtrace: _rights(xtrace, kb))


async def _described(url: str, ca_file: str | None) -> "Answer":
    from xtrace_sdk.http.transport import HttpClient, Request, Retries

    http = HttpClient(
        timeout_s=10,
        deadline_s=30,
        max_answer_bytes=_MAX_BYTES,
        max_connections=1,
        retries=Retries(attempts=2),
        ca_file=ca_file,
    )
    try:
        return await http.send(Request("GET", f"{url}/openapi.json", {}))
    finally:
        await http.aclose()


def _clock(answer: "Answer") -> Iterator[Finding]:
    try:
        moment = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
    except (TypeError, ValueError):
        return
    skew = time.time() - moment.timestamp()
    if abs(skew) > _SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        yield Finding(
            "clock",
            "warning",
            f"this machine's clock is {abs(skew):.0f} s {way} the server's",
            "set the clock: keys expire by the server's time",
        )
    else:
        yield Finding("clock", "ok", f"within {_SKEW_S:.0f} s of the server's")


async def _rights(xtrace: "XTraceIntegration", kb: str) -> list[Finding]:
    stored = await xtrace.list_exec_contexts()
    found = [Finding("api_key", "ok", f"the server accepts it; it can see {len(stored)} contexts")]
    if not xtrace.admin_key:
        advice = "give the id of a knowledge base with --kb or XTRACE_KB, or set XTRACE_ADMIN_KEY"
        found.append(Finding("admin_key", "warning", "not set, so knowledge bases cannot be found by name", advice))
        return [*found, *await _by_id(xtrace, kb)]
    try:
        kbs = await xtrace.list_kbs()
    except XTraceError as error:
        return [*found, Finding("admin_key", "error", str(error), "ask the server's operator for a new one")]
    found.append(Finding("admin_key", "ok", f"the server accepts it; there are {len(kbs)} knowledge bases"))
    ids = [one.id for one in sorted(kbs, key=lambda one: (one.created_at, one.id)) if kb in (one.name, one.id)]
    if not ids:
        advice = "`xtrace load` creates it, or name another one with XTRACE_KB"
        return [*found, Finding("knowledge_base", "warning", f"{kb} does not exist", advice)]
    return [*found, await _permission(xtrace, kb, ids[0])]


async def _by_id(xtrace: "XTraceIntegration", kb: str) -> list[Finding]:
    try:
        await xtrace.get_ctx_for_kb(kb)
    except KnowledgeBaseNotFound:
        advice = "set XTRACE_KB to the id of a knowledge base"
        return [Finding("knowledge_base", "warning", f"{kb} is not a knowledge base id", advice)]
    except XTraceError as error:
        return [Finding("knowledge_base", "error", str(error), "grant access with: xtrace keys grant")]
    return [Finding("knowledge_base", "ok", f"{kb} exists, and the API key may read it")]


async def _permission(xtrace: "XTraceIntegration", kb: str, kb_id: str) -> Finding:
    digest = hashlib.sha256(xtrace.api_key.encode()).hexdigest()
    try:
        granted = await xtrace.get_key_permissions(digest)
    except NotFound:  # a server other than XTrace's may hash keys differently
        return Finding("knowledge_base", "ok", f"{kb} exists ({kb_id})")
    permission = next((one.permission for one in granted if one.knowledge_base_id == kb_id), Permission.NONE)
    found = f"{kb} ({kb_id}): the API key may {_RIGHTS.get(Permission(permission), 'do nothing')}"
    if permission == Permission.DELETE:
        return Finding("knowledge_base", "ok", found)
    advice = f"grant more with: xtrace keys grant {digest} {kb_id} all"
    return Finding("knowledge_base", "error" if permission == Permission.NONE else "warning", found, advice)
