"""`XTraceIntegration`: every call of an XTrace service, hosted or self-hosted. It does not use cryptography.

A call is checked before it is sent (`payloads`), sent with retries (`xtrace_sdk.http.transport`), and its answer is
checked against the HTTP contract before it is returned (`contract`). The calls are in `chunks`, `searches`, `blocks`,
`changes`, `shared_indexes`, `contexts` and `control_plane`.
"""

import os
import ssl
from collections.abc import Awaitable, Generator, Iterable
from typing import Final, Self

import httpx2

from xtrace_core.secrecy import Secretive
from xtrace_sdk.arguments import Positive, Seconds, checked_calls
from xtrace_sdk.http.transport import HttpClient, Retries, base_url, header_value
from xtrace_sdk.limits import MAX_ANSWER_BYTES
from xtrace_sdk.service.blocks import BlockCalls
from xtrace_sdk.service.changes import ChunkChanges, LocalChanges
from xtrace_sdk.service.chunks import DEFAULT_BATCH_SIZE, InsertedIds, StoredChunk, StoredChunks
from xtrace_sdk.service.contract import Service
from xtrace_sdk.service.control_plane import ControlPlane
from xtrace_sdk.service.private_fields import PrivateFields
from xtrace_sdk.service.searches import HammingAnswer, MetaDataPage, Searches
from xtrace_sdk.service.shared_indexes import SharedIndexes

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "ChunkChanges",
    "HammingAnswer",
    "InsertedIds",
    "MetaDataPage",
    "Retries",
    "StoredChunk",
    "XTraceIntegration",
]

DEFAULT_API_URL: Final = "https://api.production.xtrace.ai"


class _NothingToDo:
    """An awaitable that does not have to be awaited."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


@checked_calls
class XTraceIntegration(StoredChunks, Searches, BlockCalls, LocalChanges, SharedIndexes, ControlPlane, Secretive):
    """All communication with an XTrace service.

    Can be used as an asynchronous context manager, which closes the connections at the end,
    and from several event loops. Every call may raise `NetworkError` (no usable answer after all retries) and
    `ServerError` (an error answer; one class for each reason). A call with invalid arguments raises `InputError` and
    sends nothing.
    """

    def __init__(
        self,
        org_id: str | None = None,
        api_key: str | None = None,
        admin_key: str | None = None,
        api_url: str | None = None,
        admin_api_url: str | None = None,
        *,
        timeout_s: Seconds = 60.0,
        deadline_s: Seconds = 900.0,
        retries: Retries | None = None,
        max_connections: Positive = 16,
        max_answer_bytes: Positive = MAX_ANSWER_BYTES,
        verify: bool | ssl.SSLContext = True,
        ca_file: str | os.PathLike[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            org_id: the organisation's id, or `XTRACE_ORG_ID`.
            api_key: for chunks and contexts, or `XTRACE_API_KEY`.
            admin_key: for knowledge bases and keys, or `XTRACE_ADMIN_KEY`.
            api_url: the service's address, or `XTRACE_API_URL`; by default the hosted service.
            admin_api_url: the control plane's address, or `XTRACE_ADMIN_API_URL`; by default `api_url` + `/api`.
            timeout_s: the maximum time without data from the service.
            deadline_s: the maximum time of one attempt, including reading the answer of a search.
            retries: how often and how long to try again.
            max_connections: how many calls are in progress at the same time; others wait.
            max_answer_bytes: larger answers raise `AnswerTooLarge`. Chunks fetched by id, or page by page, are then
                requested in smaller batches. `stream_hamming_distances` reads answers of any size as they arrive.
                Decoding an answer takes up to 20 times its size in memory.
            verify: False accepts any certificate, which lets anyone on the network path read the API keys; or an
                `ssl.SSLContext`.
            ca_file: certificates (PEM) of the only authorities to trust, for a private certificate authority. By
                default `SSL_CERT_FILE` or `SSL_CERT_DIR`, else the system's.
            transport: replaces the network, for tests.

        Raises `InvalidArgument` for invalid URLs, and for keys that are not allowed in a header.
        """
        api_url = base_url(
            api_url or os.environ.get("XTRACE_API_URL") or DEFAULT_API_URL, "api_url (or XTRACE_API_URL)"
        )
        admin_api_url = admin_api_url or os.environ.get("XTRACE_ADMIN_API_URL") or f"{api_url}/api"
        self._private_fields = PrivateFields()
        self._native: dict[str, bool] = {}
        """Whether a context is native, for contexts that were looked up."""
        http = HttpClient(
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            max_answer_bytes=max_answer_bytes,
            max_connections=max_connections,
            retries=retries or Retries(),
            verify=verify,
            ca_file=ca_file,
            transport=transport,
        )
        self._service = Service(
            http,
            org_id=header_value(org_id or os.environ.get("XTRACE_ORG_ID") or "", "org_id"),
            api_url=api_url,
            api_key=header_value(api_key or os.environ.get("XTRACE_API_KEY") or "", "api_key"),
            admin_api_url=base_url(admin_api_url, "admin_api_url (or XTRACE_ADMIN_API_URL)"),
            admin_key=header_value(admin_key or os.environ.get("XTRACE_ADMIN_KEY") or "", "admin_key"),
        )

    def __repr__(self) -> str:
        return f"XTraceIntegration({self._service!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. A later call opens new ones."""
        await self._service.aclose()

    close = aclose

    def init_session(self) -> Awaitable[None]:
        """Does nothing: connections are opened by the calls that need them."""
        return _NothingToDo()

    @property
    def org_id(self) -> str:
        """The organisation's id; empty if not set."""
        return self._service.org_id

    @property
    def api_url(self) -> str:
        """The service's address, without a trailing slash."""
        return self._service.api_url

    @property
    def admin_api_url(self) -> str:
        """The control plane's address, without a trailing slash."""
        return self._service.admin_api_url

    @property
    def api_key(self) -> str:
        """The API key, a secret; empty if not set."""
        return self._service.api_key

    @property
    def admin_key(self) -> str:
        """The admin key, a secret; empty if not set."""
        return self._service.admin_key

    @property
    def batch_size(self) -> int:
        """The default number of chunks in one batch of `store_db`."""
        return DEFAULT_BATCH_SIZE

    def declare_private(self, context_id: str, fields: Iterable[str]) -> None:
        """From now on, rejects calls that would send plaintext values of these metadata fields of this context.

        `DataLoader` and `Retriever`, which replace such values with hashes, declare the private fields of their
        context.
        """
        self._private_fields.declare(context_id, fields)
