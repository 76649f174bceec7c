"""The settings of a server: from arguments, else from environment variables `XTRACE_…`, else these defaults."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """How a server runs. Immutable; every field can be given as `XTRACE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="XTRACE_", frozen=True)

    data: Path = Path("xtrace-data")
    """The folder of the database and of `credentials.json`; made with mode 0700 if it is missing."""
    database_url: str | None = None
    """Where the database is, as SQLAlchemy writes it; by default the SQLite file `xtrace.db` in the data
    folder.
    """
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free port."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    """The largest body of a request."""
    cache_bytes: int = Field(default=512 * 2**20, ge=0)
    """How much memory the search engine may keep ciphertexts in."""
    search_threads: int = Field(default=2, ge=1, le=256)
    """How many threads multiply ciphertexts."""
    shutdown_timeout_s: int = Field(default=30, ge=0)
    """How long requests in flight may take to finish when the server stops."""

    @field_validator("database_url")
    @classmethod
    def _is_sqlite(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("sqlite+aiosqlite:///"):
            raise ValueError("expected a URL that begins with sqlite+aiosqlite:///")
        return url

    @property
    def sqlite_url(self) -> str:
        """The URL of the database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data.resolve() / 'xtrace.db'}"
