"""What an agent meets in a furnished folder: the server of `xtrace mcp`, in this process, and calls of its tools."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client

from xtrace_cli.mcp.access import Access
from xtrace_cli.mcp.files import AllowedFolders
from xtrace_cli.options.connection import known_connection
from xtrace_cli.options.settings import current_settings
from xtrace_cli.workspace import Given, Workspace, context_opener


@asynccontextmanager
async def access_here(
    *names: str,
    allowed: Iterable[Path] = (),
    secrets: Iterable[Path] = (),
    max_bytes: int = 1 << 20,
    can_write: bool = True,
) -> AsyncIterator[Access]:
    """What `xtrace mcp` gives in the working folder, with its settings."""
    settings = current_settings()
    async with known_connection(None, settings).integration(("org_id", "api_key"), may_use=("admin_key",)) as xtrace:
        context = await context_opener(Given(), settings)(xtrace)
        folders = AllowedFolders(allowed, secrets)
        yield Access(Workspace(xtrace, context, settings), names, folders, max_bytes=max_bytes, can_write=can_write)


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured result of a call that succeeds. The client has checked it by the tool's own schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def refusal(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """The sentence of a call that fails: one line, without the traces of a program."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.structured_content is None
    (part,) = result.content
    assert part.type == "text"
    assert "\n" not in part.text
    for trace in ("Traceback", "pydantic", "unexpected", ".py"):
        assert trace not in part.text
    return part.text
