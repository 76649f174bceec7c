"""The settings of a server.

Each can be set in four places, and the first that sets it wins: an argument of `Settings` (a flag of `xtrace serve`),
an environment variable (`XTRACE_` and the name in capitals), the configuration file (TOML), the default here.
`docs/operations.md` lists them all; a test compares the page with this class.
"""

import os
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from limits import parse_many
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from xtrace_core import limits
from xtrace_core.environment import PREFIX, unknown_variables
from xtrace_core.metadata_filter import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, FilterLimits
from xtrace_core.schemes.prepared import BUDGET_BYTES as PREPARED_BYTES
from xtrace_core.wire import MAX_QUERIES
from xtrace_server import traces
from xtrace_server.storage.dialects import Options, default_url, dialect_of

MIN_METRICS_TOKEN = 16
MIN_CONNECTIONS = 4
DIVIDED = ("memory_bytes", "cache_bytes", "search_memory_bytes", "database_connections")
"""A value for one of these covers all workers together; the default is for each."""
BODY_COPIES = 3
"""How many copies of a body are in memory: as received, joined, and decoded."""


class SettingsFileUnusable(ValueError):
    """The configuration file is missing, unreadable, or not valid TOML."""


class Settings(BaseSettings):
    """How a server runs. Immutable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    config: Path | None = None
    """A TOML file with settings; can only be set by a flag or the environment."""

    data: Path = Path("xtrace-data")
    """The folder of the database and of `credentials.json`; created with mode 0700 if it is missing."""
    database_url: str | None = Field(default=None, repr=False)
    """The database: `postgresql://user@host/name`, or by default the SQLite file `xtrace.db` in the data folder."""
    database_connections: int = Field(default=16, ge=MIN_CONNECTIONS)
    """Connections to PostgreSQL, which the server opens as it needs them."""
    database_timeout_s: float = Field(default=120.0, gt=0)
    """Maximum time for one statement in PostgreSQL."""
    new_database: bool = False
    """Start with a new, empty database even if the data folder has the credentials of a missing one."""
    backup_before_migration: bool = True
    """Whether to back up an older database into the data folder before its schema is migrated."""
    workers: int = Field(default=1, ge=1, le=64)
    """Number of worker processes; a parent process restarts workers that die."""
    worker_timeout_s: float = Field(default=30.0, ge=1)
    """A worker whose event loop does not run for this long is killed and replaced; at its start, four times this."""
    shared: bool = False
    """Allow several servers on the same data folder; all of them need this setting."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 selects a free one."""
    ops_port: int | None = Field(default=None, ge=1, le=65535)
    """A second port for probes, metrics and `/openapi.json`, which need no key, without the limits of the first one."""
    dashboard: bool = True
    """Whether to serve the dashboard at `/`."""
    dashboard_port: int | None = Field(default=None, ge=1, le=65535)
    """A separate port for the dashboard, which is then not served on the first one."""
    dashboard_behind_tls: bool = False
    """A proxy serves the dashboard over HTTPS: use cookies over HTTPS only, and the last `X-Forwarded-For` address."""
    dashboard_idle_s: float = Field(default=1800.0, ge=60)
    """Idle timeout of a dashboard session."""
    dashboard_session_s: float = Field(default=43_200.0, ge=60)
    """Maximum lifetime of a dashboard session."""
    dashboard_sign_ins: int = Field(default=10, ge=1)
    """Failed sign-ins per minute for one address; further ones are rejected until the minute is over."""
    operator_api: bool = True
    """Whether to serve the routes under `/api/v1/operator`, which need the operator key."""
    tls_certificate: Path | None = None
    """The certificate chain (PEM) for HTTPS; needs `tls_key`."""
    tls_key: Path | None = None
    """The private key (PEM) of the certificate."""

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    """The body of a request."""
    max_line_bytes: int = Field(default=2**20, ge=1024)
    """The request line: the URL with its parameters."""
    max_header_bytes: int = Field(default=64 * 1024, ge=1024)
    """All header fields of a request together."""
    max_chunks: int = Field(default=limits.MAX_CHUNKS, ge=1)
    """Chunks in one insertion, update or patch."""
    max_write_cost: int = Field(default=limits.MAX_WRITE_COST, ge=1)
    """Cost of one insertion, update or patch: a chunk costs 1, five facets cost 1, 5,000 bytes cost 1."""
    max_ids: int = Field(default=limits.MAX_IDS, ge=1)
    """Chunk ids, or names of chunks, in one request."""
    max_content_bytes: int = Field(default=16 * 2**20, ge=1)
    """The encrypted content of one chunk."""
    max_ciphertexts: int = Field(default=1024, ge=1)
    """Ciphertexts in one index or query."""
    max_queries: int = Field(default=MAX_QUERIES, ge=1, le=MAX_QUERIES)
    """Queries in one batch."""
    max_tag_characters: int = Field(default=65_536, ge=1)
    """A tag, or one facet."""
    max_facets: int = Field(default=10_000, ge=1)
    """Facets of one chunk."""
    max_name_characters: int = Field(default=65_536, ge=1)
    """A name or a description: of a chunk, a knowledge base, an API key."""
    max_context_bytes: int = Field(default=2**20, ge=1024)
    """Each field of a saved execution context."""
    max_projection: int = Field(default=64, ge=1)
    """Fields named by one projection."""
    max_filter_bytes: int = Field(default=2 * 2**20, ge=1024)
    """One metadata filter, as JSON."""
    max_filter_depth: int = Field(default=MAX_DEPTH, ge=1, le=200)
    """Nesting depth of `$and`, `$or`, `$nor` and `$not`."""
    max_filter_conditions: int = Field(default=MAX_CONDITIONS, ge=1, le=900)
    """Operators and nested filters of one metadata filter."""
    max_filter_values: int = Field(default=MAX_VALUES, ge=1, le=30_000)
    """Values in all lists of one metadata filter."""
    max_filter_cost: int = Field(default=20_000_000, ge=1)
    """Conditions times chunks for a metadata filter with `$contains`, which does not use an index."""
    max_filter_s: float = Field(default=30.0, gt=0)
    """Maximum time that the database may take to apply a metadata filter."""

    rate_limit: str | None = None
    """Maximum rate of one key, such as `100/second` or `50/second; 1000/minute`; unlimited if unset."""
    rate_store: str | None = Field(default=None, repr=False)
    """A Redis in which servers count rates, request quotas and failed sign-ins together."""
    max_requests: int = Field(default=1024, ge=1)
    """Requests in flight; more get a 503."""
    max_requests_each: int = Field(default=256, ge=1)
    """Requests in flight for one organisation; more get a 503."""
    max_connections: int = Field(default=4096, ge=1)
    """Open connections; a new one replaces the one that has been idle longest, or gets a 503."""
    header_timeout_s: float = Field(default=20.0, gt=0)
    """Maximum time for the header of a request to arrive."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """Maximum time for a body to arrive, plus the time for its bytes at `min_body_bytes_per_s`."""
    min_body_bytes_per_s: int = Field(default=8192, ge=1)
    """Minimum rate at which a body must arrive."""
    write_timeout_s: float = Field(default=60.0, gt=0)
    """Maximum time for which a client may stop reading an answer."""
    keep_alive_s: float = Field(default=75.0, gt=0)
    """How long an idle connection stays open; clients must close idle connections sooner."""
    request_timeout_s: float = Field(default=300.0, gt=0)
    """Maximum time from the last byte of a request to the first of its answer."""
    drain_s: float = Field(default=0.0, ge=0)
    """How long `/readyz` returns 503 before the server stops, while it still serves; a second Ctrl-C skips this."""
    shutdown_timeout_s: int = Field(default=30, ge=0)
    """Maximum time for requests in flight to finish when the server stops."""

    ballast_bytes: int = Field(default=128 * 2**20, ge=0)
    """Size of a file in the data folder that is removed so that deletions work on a full disk; 0 disables it."""
    slow_statement_s: float = Field(default=1.0, gt=0)
    """Database statements that take at least this long are logged, without their values."""

    memory_bytes: int = Field(default=2**30, ge=0)
    """Memory for all client data: the two settings below, 64 MiB of prepared queries, and requests."""
    cache_bytes: int = Field(default=512 * 2**20, ge=0)
    """Memory for the search engine's cache of ciphertexts, including rows that searches still read from it."""
    search_memory_bytes: int = Field(default=64 * 2**20, ge=0)
    """Memory for rows of all searches that are not in the cache; searches that need more use temporary files."""
    search_threads: int = Field(default=2, ge=1, le=256)
    """Threads that compute searches."""
    block_files_bytes: int = Field(default=4 * 2**30, ge=0)
    """Size of the folder `blocks` in the data folder, in which searched blocks of vectors are mapped into memory."""

    engine: Literal["local", "ray"] = "local"
    """Where to compute searches of large knowledge bases: in this process, or in a Ray cluster."""
    ray_address: str = Field(default="auto", min_length=1)
    """The cluster's address, `HOST:PORT`; `auto` uses the Ray node on this host."""
    ray_min_rows: int = Field(default=100_000, ge=0)
    """Searches of knowledge bases with fewer chunks are computed in this process."""
    ray_segment_rows: int = Field(default=8192, ge=1)
    """Chunks in one segment of the cluster; must be the same for all servers of a cluster."""
    ray_node_bytes: int = Field(default=4 * 2**30, ge=0)
    """Memory for ciphertexts on each node of the cluster; the server that first uses a node sets it."""
    ray_idle_s: float = Field(default=3600.0, gt=0)
    """How long the cluster keeps ciphertexts that servers do not use."""
    ray_timeout_s: float = Field(default=30.0, gt=0)
    """Maximum time for one step of a search in the cluster."""

    metrics: Literal["off", "loopback", "token"] = "off"
    """Who may read `/metrics`: no one, this host (not behind a proxy on it), or clients that send `metrics_token`."""
    metrics_token: str | None = Field(default=None, min_length=MIN_METRICS_TOKEN, repr=False)
    """The bearer token that opens `/metrics`."""
    traces_endpoint: str | None = None
    """An OpenTelemetry collector (OTLP over HTTP), such as `http://127.0.0.1:4318`; no traces if unset."""
    traces_ratio: float = Field(default=1.0, ge=0, le=1)
    """The fraction of requests that are traced."""
    traces_context: bool = False
    """Whether to accept a client's `traceparent` header, which says to which trace a request belongs."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """Format of log lines; `auto` is text on a terminal and JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of log lines; requests are logged at `info`."""

    insecure_schemes: Annotated[tuple[str, ...] | None, NoDecode] = None
    """Schemes without encryption, for tests only: `module:object`, comma-separated."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns the sources in order of precedence. Raises `ValueError` for an unknown variable."""
        for name, nearest in unknown_variables(os.environ, settings_cls.model_fields).items():
            raise ValueError(
                f"{name} is not a known environment variable of XTrace: "
                + (f"did you mean {nearest}? " if nearest else "")
                + "Correct or unset it"
            )
        named = init_settings().get("config") or os.environ.get(f"{PREFIX}CONFIG")
        in_file = InitSettingsSource(settings_cls, _read(Path(named))) if named else None
        return (init_settings, env_settings, *([in_file] if in_file else []))

    @field_validator("database_url")
    @classmethod
    def _checked_database_url(cls, url: str | None) -> str | None:
        if url is not None:
            dialect_of(url)
        return url

    @field_validator("rate_store")
    @classmethod
    def _checked_rate_store(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("redis", "rediss") or not parts.hostname:
                raise ValueError("expected a URL such as redis://host:6379/0, or rediss:// for TLS")
            if find_spec("redis") is None:
                raise ValueError("a rate store needs the client of Redis: pip install 'xtracedb[redis]'")
        return url

    @field_validator("traces_endpoint")
    @classmethod
    def _checked_traces(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            parts = urlsplit(endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
                raise ValueError("expected a URL such as http://127.0.0.1:4318, without user and query")
            if not traces.is_installed():
                raise ValueError("traces need OpenTelemetry: pip install 'xtracedb[otel]'")
        return endpoint

    @field_validator("insecure_schemes", mode="before")
    @classmethod
    def _split_schemes(cls, names: Any) -> Any:
        return names.split(",") if isinstance(names, str) else names

    @field_validator("rate_limit")
    @classmethod
    def _checked_rate(cls, rate: str | None) -> str | None:
        if rate is not None:
            try:
                parse_many(rate)
            except ValueError:
                raise ValueError("expected a rate such as 100/second or 1000/minute") from None
        return rate

    @model_validator(mode="after")
    def _checked_together(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together")
        if self.metrics == "token" and self.metrics_token is None:
            raise ValueError("metrics is token, so metrics_token must be set")
        if self.ops_port is not None and self.ops_port == self.port:
            raise ValueError(f"ops_port and port are both {self.port}: use a different second port")
        for name, port in (("port", self.port), ("ops_port", self.ops_port)):
            if self.dashboard_port is not None and self.dashboard_port == port:
                raise ValueError(f"dashboard_port and {name} are both {port}: use a different port for the dashboard")
        missing = 2 * BODY_COPIES * self.max_body_bytes - self.of_worker.request_memory_bytes
        if missing > 0:
            given = self._share_of("memory_bytes") * self.workers
            for_whom = f" for {self.workers} workers" if self.workers > 1 else ""
            raise ValueError(
                f"memory_bytes is {given}{for_whom}, expected at least {given + missing * self.workers}: raise it, or "
                "lower cache_bytes, search_memory_bytes or max_body_bytes"
            )
        if self._share_of("database_connections") < MIN_CONNECTIONS:
            raise ValueError(
                f"database_connections is {self.database_connections} for {self.workers} workers, expected at least "
                f"{MIN_CONNECTIONS * self.workers}"
            )
        return self

    @property
    def of_worker(self) -> "Settings":
        """The settings of one worker, with its share of the divided ones."""
        return self.model_copy(update={"workers": 1, **{name: self._share_of(name) for name in DIVIDED}})

    def _share_of(self, name: str) -> int:
        # Defaults are for one process.
        return int(getattr(self, name)) // (self.workers if name in self.model_fields_set else 1)

    @property
    def request_memory_bytes(self) -> int:
        """Memory for the bodies and answers of all requests in flight."""
        return self.memory_bytes - self.cache_bytes - self.search_memory_bytes - PREPARED_BYTES

    @property
    def resolved_database_url(self) -> str:
        """The URL of the database, given or default."""
        return self.database_url or default_url(self.data)

    @property
    def database_options(self) -> Options:
        """The options of the database."""
        return Options(connections=self.database_connections, statement_timeout_s=self.database_timeout_s)

    @property
    def filter_limits(self) -> FilterLimits:
        """The limits of one metadata filter."""
        return FilterLimits(self.max_filter_depth, self.max_filter_conditions, self.max_filter_values)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsFileUnusable(f"the configuration file {file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsFileUnusable(f"the configuration file {file} is not valid TOML: {error}") from None
    if "config" in found:
        raise SettingsFileUnusable(f"{file} sets config, which only a flag or the environment can set")
    return found
