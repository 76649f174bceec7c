"""The audit log: filtered pages, and exports."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of
from xtrace_server.dashboard.rendering import signed_in_page
from xtrace_server.errors import NotFound
from xtrace_server.http.answers import StreamedAnswer
from xtrace_server.http.requests import state_of
from xtrace_server.operations import audit

router = APIRouter(prefix="/audit", route_class=PageRoute, include_in_schema=False)

ACTIONS: Final = {
    "": "All actions",
    "denied.": "Denied accesses",
    "knowledge_base.": "Knowledge bases",
    "api_key.": "API keys",
    "admin_key.": "Admin keys",
    "session.": "Sessions",
    "organisation.": "Organisation",
}
_FIELDS: Final = ("id", "at", "action", "actor", "subject", "detail", "request_id", "count")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet treats as the beginning of a formula."""


@router.get("")
@requires(SIGNED_IN)
async def show(request: Request) -> Response:
    """A page of the matching entries, newest first."""
    asked = _asked(request)
    before = parameters.number(request, "before", 0, 2**63 - 1) or None
    state, actor = state_of(request), caller_of(request).actor
    found = await audit.find(state, actor, _wanted(asked), before, audit.PAGE_ENTRIES + 1)
    entries = [audit.shown(entry) for entry in found[: audit.PAGE_ENTRIES]]
    return await signed_in_page(
        request,
        "audit.html",
        entries=entries,
        asked=asked,
        actions=ACTIONS,
        before=before,
        next_before=entries[-1].id if len(found) > audit.PAGE_ENTRIES else None,
    )


@router.get("/export/{format_}")
@requires(SIGNED_IN)
async def export(request: Request, format_: str) -> Response:
    """All matching entries, as CSV or as JSON lines."""
    if format_ not in ("csv", "json"):
        raise NotFound("the audit log is exported as csv or json")
    entries = audit.every(state_of(request), caller_of(request).actor, _wanted(_asked(request)))
    lines = _csv(entries) if format_ == "csv" else _json(entries)
    media_type = "text/csv; charset=utf-8" if format_ == "csv" else "application/x-ndjson"
    name = f"audit.{'csv' if format_ == 'csv' else 'jsonl'}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamedAnswer(lines, media_type=media_type, headers=headers)


async def _csv(steps: AsyncIterator[list[audit.Entry]]) -> AsyncIterator[str]:
    yield ",".join(_FIELDS) + "\r\n"
    async for step in steps:
        text = io.StringIO()
        csv.writer(text).writerows([_cell(value) for value in _values(audit.shown(entry))] for entry in step)
        yield text.getvalue()


async def _json(steps: AsyncIterator[list[audit.Entry]]) -> AsyncIterator[bytes]:
    async for step in steps:
        yield b"".join(msgspec.json.encode(audit.shown(entry)) + b"\n" for entry in step)


def _values(entry: wire.AuditEntry) -> list[object]:
    return [getattr(entry, name) for name in _FIELDS]


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _asked(request: Request) -> dict[str, str]:
    names = ("action", "actor", "subject", "from", "to")
    asked = {name: parameters.text(request, name).strip()[:200] for name in names}
    return asked | {"action": asked["action"] if asked["action"] in ACTIONS else ""}


def _wanted(asked: dict[str, str]) -> audit.Wanted:
    return audit.Wanted(
        action=asked["action"],
        actor=asked["actor"],
        subject=asked["subject"],
        since=_moment(asked["from"], 0),
        until=_moment(asked["to"], 1),
    )


def _moment(day: str, more_days: int) -> str | None:
    """Returns the start of a day in UTC plus `more_days`, formatted as in entries; None if it is not a day."""
    try:
        beginning = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(days=more_days)
    except (ValueError, OverflowError):
        return None
    return beginning.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
