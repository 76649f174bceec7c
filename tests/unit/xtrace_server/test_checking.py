"""What is found before a server starts."""

import os
import resource
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from cli.test_serve_settings import self_signed
from support.databases import POSTGRES, SQLITE, postgres, use
from support.postgres import NEEDED
from support.redis_server import NEEDED as REDIS_NEEDED
from support.redis_server import RedisServer
from support.service import LiveService
from xtrace_server.checking import host, limits
from xtrace_server.checking.every import findings
from xtrace_server.search import scanners
from xtrace_server.settings import Settings
from xtrace_server.storage.migrating import newest_version


def found(level: str, **given: Any) -> str:
    """The sentences of a level about a server with these settings."""
    settings = Settings(**{"port": 0, **given})
    return "\n".join(finding.sentence for finding in findings(settings) if finding.level == level)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder, with its mode and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def stopped(live_service: LiveService, tmp_path: Path) -> Path:
    """The data folder of a server that was stopped."""
    data = tmp_path / "stopped"
    data.mkdir(mode=0o700)
    with (
        closing(sqlite3.connect(live_service.folder / "xtrace.db")) as running,
        closing(sqlite3.connect(data / "xtrace.db")) as copy,
    ):
        running.backup(copy)
    return data


@pytest.fixture
def postgres_started() -> Iterator[None]:
    """A PostgreSQL runs, and is not what servers of other tests use."""
    use(POSTGRES)
    yield
    use(SQLITE)


def test_defaults_are_fine(tmp_path: Path) -> None:
    assert found("error", data=tmp_path / "new") == ""
    assert not (tmp_path / "new").exists()


@REDIS_NEEDED
def test_a_rate_store_that_does_not_answer_is_a_warning(tmp_path: Path, unused_tcp_port: int) -> None:
    redis = RedisServer(unused_tcp_port)
    assert "does not answer" in found("warning", data=tmp_path, rate_store=redis.url)
    redis.start()
    assert "The rate store answers." in found("ok", data=tmp_path, rate_store=redis.url)
    redis.kill()


@pytest.mark.sqlite
def test_an_existing_database_is_left_as_it_is(stopped: Path) -> None:
    before = contents(stopped)
    assert f"is sound and has the schema of this version ({newest_version()})" in found("ok", data=stopped)
    # What SQLite itself makes to read a database that has a log.
    assert {name: kept for name, kept in contents(stopped).items() if not name.endswith(("-shm", "-wal"))} == before


@pytest.mark.sqlite
def test_an_older_schema_is_named_and_not_migrated(stopped: Path) -> None:
    with closing(sqlite3.connect(stopped / "xtrace.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    assert f"an older schema (0001), and the server will migrate it to {newest_version()}" in found(
        "warning", data=stopped
    )
    with closing(sqlite3.connect(stopped / "xtrace.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]


def test_the_second_port_is_checked_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sentence = found("error", data=tmp_path, ops_port=taken.getsockname()[1])
    assert "already in use; stop the program that listens there, or choose another address (host, ops_port)" in sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"max_content_bytes": 10**8}, "max_content_bytes is 100000000, but a body has at most 67108864"),
        ({"max_chunks": 20_000}, "max_chunks is 20000, but chunks cost at least 1"),
        ({"max_ids": 10}, "max_ids is 10, but clients send up to 100000"),
        ({"max_requests_each": 2000}, "one organisation can block all others"),
        ({"max_requests": 5000}, "a connection has one request at a time"),
        ({"max_filter_s": 400}, "but a request ends after 300 seconds"),
        ({"search_threads": 256}, "search_threads is 256, but there are"),
        ({"search_threads": 2, "workers": 64}, "search_threads is 2 for each of 64 workers, but there are"),
        ({"memory_bytes": 9 * 10**13}, "lower memory_bytes"),
        ({"host": "::"}, "without TLS"),
        ({"insecure_schemes": "support.plain_scheme:SCHEMES"}, "insecure_schemes is set"),
    ],
)
def test_what_makes_no_sense_together_is_a_warning(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    assert sentence in found("warning", data=tmp_path, **given)


def test_the_limits_of_the_defaults_fit_together() -> None:
    settings = Settings()
    checks = (limits.check_bodies, limits.check_requests, limits.check_times, limits.check_schemes)
    assert {finding.level for check in checks for finding in check(settings)} == {"ok"}


def test_a_scheme_that_cannot_be_loaded_is_an_error() -> None:
    (finding,) = limits.check_schemes(Settings(insecure_schemes=("missing:nothing",)))
    assert (finding.level, "correct or unset insecure_schemes" in finding.sentence) == ("error", True)


def test_an_engine_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanners, "find_spec", lambda _: None)
    (finding,) = limits.check_engine(Settings(engine="ray"))
    assert (finding.level, finding.sentence.endswith("or set engine to local")) == ("error", True)


def test_too_few_files_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    (finding,) = host.check_descriptors(Settings())
    assert (finding.level, "raise the limit (ulimit -n" in finding.sentence) == ("warning", True)


def test_the_memory_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{600 * 2**20}\n")
    monkeypatch.setattr(host, "_CGROUP_LIMITS", (tmp_path / "memory.max", tmp_path / "missing"))
    (finding,) = host.check_memory(Settings())
    assert finding.sentence.startswith(
        "the server needs 1224 MiB (memory_bytes, and 200 MiB a process), but has 600 MiB"
    )
    # A default is for each worker.
    (finding,) = host.check_memory(Settings(workers=3))
    assert finding.sentence.startswith("the server needs 3672 MiB")


def test_missing_databases_and_damaged_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{}")
    sentences = found("error", data=tmp_path)
    assert "does not contain credentials: move it elsewhere" in sentences
    assert "no database was found in" in sentences
    (tmp_path / "xtrace.db").write_bytes(b"something else " * 100)
    assert "the file is not a database" in found("error", data=tmp_path)
    assert "credentials.json is not a folder" in found("error", data=tmp_path / "credentials.json" / "data")


def test_files_with_secrets_belong_to_their_owner_alone(tmp_path: Path) -> None:
    file, data, token = tmp_path / "xtrace.toml", tmp_path / "data", "0123456789abcdef0123"
    file.write_text(f'metrics = "token"\nmetrics_token = "{token}"\n')
    data.mkdir()
    file.chmod(0o644)
    data.chmod(0o755)
    sentences = found("warning", config=file, data=data)
    assert "xtrace.toml contains a secret, and other users of this host can read it" in sentences
    assert f"other users of this host can read {data}: set its mode to 0700" in sentences
    assert token not in sentences
    file.chmod(0o600)
    data.chmod(0o700)
    assert "other users" not in found("warning", config=file, data=data)


def test_a_certificate_is_checked(tmp_path: Path) -> None:
    self_signed(tmp_path)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    assert "certificate.pem expires at" in found("warning", data=tmp_path, tls_certificate=certificate, tls_key=key)
    wrong = found("error", data=tmp_path, tls_certificate=certificate, tls_key=certificate)
    assert "correct tls_certificate and tls_key" in wrong


@NEEDED
@pytest.mark.usefixtures("postgres_started")
def test_postgresql_is_reached_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": tmp_path, "database_url": postgres.url(tmp_path)}
    assert "is missing or empty: the first start makes the tables" in found("ok", **given)
    assert "but database_connections is 1000000, of all workers together: lower it" in found(
        "warning", database_connections=10**6, **given
    )
    with postgres.connect(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall() == [(0,)]
        (name,) = connection.execute("SELECT current_database()").fetchone()
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert "takes no writes" in found("warning", **given)


@NEEDED
def test_a_database_that_is_away_is_an_error_without_its_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"postgresql://user:unlikely-password@127.0.0.1:{port}/name"
    sentences = [finding.sentence for finding in findings(Settings(port=0, data=tmp_path, database_url=url))]
    assert any("the PostgreSQL database name on 127.0.0.1 cannot be reached" in sentence for sentence in sentences)
    assert "unlikely-password" not in "".join(sentences)


@NEEDED
def test_a_connection_over_a_network_should_check_certificates() -> None:
    from xtrace_server.storage.postgres.cautions import unverified

    assert "sslmode=verify-full" in next(unverified(make_url("postgresql://db.example/name")))
    for url in ("postgresql:///name?host=/run", "postgresql://localhost/n", "postgresql://a/n?sslmode=verify-full"):
        assert list(unverified(make_url(url))) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be written by this user" in found("error", data=tmp_path / "data")
