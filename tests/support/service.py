"""A real server for tests (uvicorn on a free port, a database of its own), and a plain HTTP client of it.

The fixtures `live_service` and `credentials` in `conftest.py` come from here.
"""

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec

from support import databases
from support.databases import database_settings
from support.ray_cluster import until
from support.schema import put_schema
from support.toy_paillier import ToyPaillier, toy_key
from xtrace_core.wire import ADMIN_KEY_HEADER, API_KEY_HEADER, MSGPACK, OPERATOR_KEY_HEADER, ORGANISATION_HEADER
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.bootstrap import credentials_of
from xtrace_server.credentials import (
    CREDENTIALS_FILE,
    OPERATOR_FILE,
    Credentials,
    read_credentials,
    read_operator_credentials,
)
from xtrace_server.operations import organisations
from xtrace_server.serving import RunningServer, start
from xtrace_server.settings import Settings
from xtrace_server.storage.database import Database

T = TypeVar("T")


@dataclass(frozen=True)
class LiveService:
    """A server that runs in a thread of this process."""

    server: RunningServer
    folder: Path
    _spare: list[Credentials] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def address(self) -> tuple[str, int]:
        """Where its socket listens."""
        return "127.0.0.1", int(self.url.rpartition(":")[2])

    @property
    def first_credentials(self) -> Credentials:
        """The organisation of the first start."""
        return read_credentials(self.folder / CREDENTIALS_FILE)

    @property
    def operator_headers(self) -> dict[str, str]:
        """What opens the operator's routes."""
        return {OPERATOR_KEY_HEADER: read_operator_credentials(self.folder / OPERATOR_FILE).operator_key}

    def new_organisation(self, name: str = "test") -> Credentials:
        """A further organisation, empty, with an admin key and an API key with default permission 7."""

        return credentials_of(
            self.operate(lambda database: organisations.create(database, ON_THE_HOST, name)), self.url
        )

    def spare_organisation(self) -> Credentials:
        """The same, for tests that do not count organisations: one of a dozen that were made together."""

        async def dozen(database: Database) -> list[Credentials]:
            made = [await organisations.create(database, ON_THE_HOST, "test") for _ in range(12)]
            return [credentials_of(one, self.url) for one in made]

        if not self._spare:
            self._spare.extend(self.operate(dozen))
        return self._spare.pop()

    def operate(self, act: Callable[[Database], Awaitable[T]]) -> T:
        """What the act does to the server's database, as a command on its host does."""

        async def run() -> T:
            # Not with `open_database`: it opens and closes the file itself, and closing a file gives up every lock that
            # this process, the server's too, holds on it.
            database = Database(self.server.settings.resolved_database_url)
            try:
                return await act(database)
            finally:
                await database.close()

        # In a thread, because the caller may have an event loop of its own.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(run())).result()


@contextmanager
def running_service(folder: Path, **settings: Any) -> Iterator[LiveService]:
    """A server over `folder`; `settings` are fields of `Settings`."""
    if "database_url" not in settings:
        put_schema(folder)
    # Tests share the server and come from one address: more sign-ins fail in a minute than a person's.
    defaults = {"port": 0, "ballast_bytes": 0, "dashboard_sign_ins": 100_000, **database_settings(folder)}
    server = start(Settings(data=folder, **{**defaults, **settings}))
    if databases.current() == databases.CLUSTER:
        until(lambda: server.app.state.server.engine.cluster()["nodes"](), "the server is connected to the cluster")
    try:
        yield LiveService(server, folder)
    finally:
        server.stop()


NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of a server without TLS: reading the system's authorities takes longer than most tests."""


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Http:
    """Calls as any client of the contract makes them, for one organisation. Closes with `close`."""

    def __init__(self, credentials: Credentials, packs: bool = False) -> None:
        """`packs`: writes of chunks that are given as `json` travel as MessagePack."""
        self.packs = packs
        self.credentials = credentials
        self.org = credentials.org_id
        self.client = httpx2.Client(base_url=credentials.api_url, timeout=60, verify=NO_AUTHORITIES)
        self.data_headers = {API_KEY_HEADER: credentials.api_key}
        self.control_headers = {
            ADMIN_KEY_HEADER: credentials.admin_key,
            ORGANISATION_HEADER: credentials.org_id,
        }

    def close(self) -> None:
        self.client.close()

    def data(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """A call of the data plane; `path` begins after `/v1`, and `{org}` in it is the organisation."""
        headers = self.data_headers | arguments.pop("headers", {})
        if self.packs and "json" in arguments and path == "/chunk/{org}":
            headers["content-type"] = MSGPACK
            arguments["content"] = packed(arguments.pop("json"))
        return self.client.request(method, "/v1" + path.format(org=self.org), headers=headers, **arguments)

    def control(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """A call of the control plane; `path` begins after `/api/v1`."""
        headers = self.control_headers | arguments.pop("headers", {})
        return self.client.request(method, "/api/v1" + path, headers=headers, **arguments)

    def new_kb(self) -> str:
        return str(ok(self.control("POST", "/kbs", json={"name": "kb", "description": ""}))["id"])

    def save_context(self, context_id: str = "ctx", key: ToyPaillier | None = None) -> str:
        data = msgspec.to_builtins((key or toy_key()).context_data)
        ok(self.data("POST", "/exec_context/{org}", json={"context_id": context_id, "data": data}))
        return context_id

    def insert(self, kb: str, chunks: list[dict[str, Any]], context: str = "ctx") -> list[int]:
        body = {"kb_id": kb, "context_id": context, "chunks": chunks}
        ids: list[int] = ok(self.data("POST", "/chunk/{org}", json=body))["chunk_ids"]
        return ids

    def get(self, kb: str, *chunk_ids: int, projection: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        params = {"kb_id": kb, "chunk_ids": list(chunk_ids), "projection": list(projection)}
        found: list[dict[str, Any]] = ok(self.data("GET", "/chunk/{org}", params=params))
        return found

    def search(self, kb: str, query: list[bytes], context: str = "ctx", **body: Any) -> list[Any]:
        body |= {"kb_id": kb, "context_id": context, "query": [b64(one) for one in query]}
        answer = self.data("POST", "/compute_hamming/{org}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-msgpack"
        rows: list[Any] = msgspec.msgpack.decode(answer.content)
        return rows


def packed(body: Any) -> bytes:
    """A write of chunks, as it is in JSON, in MessagePack: what is base64 there is binary here."""
    return msgspec.msgpack.encode(
        {name: [_packed_chunk(one) for one in part] if isinstance(part, list) else part for name, part in body.items()}
    )


def _packed_chunk(sent: Any) -> Any:
    if not isinstance(sent, dict):
        return sent
    binary = {}
    if isinstance(sent.get("index"), list):
        binary["index"] = [_binary(one) for one in sent["index"]]
    if "nonce" in sent:
        binary["nonce"] = _binary(sent["nonce"])
    return sent | binary


def _binary(text: Any) -> Any:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return text


class JsonOnly(httpx2.AsyncBaseTransport):
    """The network to a service that does not know MessagePack."""

    def __init__(self) -> None:
        self._network = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("content-type") == MSGPACK:
            return httpx2.Response(415, json={"detail": "expected application/json", "code": "unsupported_media_type"})
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()


def ok(answer: httpx2.Response) -> Any:
    """The JSON of an answer that is exactly 200."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def problem(answer: httpx2.Response, status: int, code: str) -> str:
    """The detail of an error answer, whose form is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "message"}
    assert (body["status"], body["code"], body["message"]) == (status, code, body["detail"])
    return str(body["detail"])


def chunk(message: int = 1, key: ToyPaillier | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk to insert whose index is one ciphertext of the message."""
    index = [b64((key or toy_key()).encrypt(message))]
    return {"chunk_content": f"content {message}", "index": index, "meta_data": {}, "name": "", **fields}
