"""Finds problems of a PostgreSQL database that a server may meet later, for `xtrace serve --check-config`."""

import os
from collections.abc import Iterator
from ipaddress import ip_address

from sqlalchemy import URL, Connection

_VERIFIED = ("verify-full", "verify-ca")


def cautions(connection: Connection, connections: int, changes_schema: bool) -> Iterator[str]:
    """Yields the problems of a server with this many connections, each as a sentence after the database's name."""
    if connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on":
        yield (
            "takes no writes: it is a replica, or default_transaction_read_only is on; name the primary, or several "
            "hosts with target_session_attrs=read-write"
        )
    elif (
        changes_schema
        and not connection.exec_driver_sql("SELECT has_schema_privilege(current_schema(), 'CREATE')").scalar_one()
    ):
        yield "does not let this role create tables: GRANT CREATE, USAGE ON SCHEMA public to it"
    settings = ("max_connections", "superuser_reserved_connections")
    most, reserved = (int(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in settings)
    if connections > most - reserved:
        yield (
            f"accepts {most - reserved} connections, but database_connections is {connections}, of all workers "
            "together: lower it, or raise max_connections in PostgreSQL"
        )


def unverified(url: URL) -> Iterator[str]:
    """Yields the same for a network connection that does not verify the other end."""
    named = url.query.get("host", url.host or os.environ.get("PGHOST", ""))
    hosts = named.split(",") if isinstance(named, str) else named
    verified = url.query.get("sslmode", os.environ.get("PGSSLMODE")) in _VERIFIED
    for host in hosts:
        if not verified and not _is_local(host):
            yield (
                f"is reached over the network at {host} without checking its certificate: add sslmode=verify-full and "
                "sslrootcert to the URL"
            )


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost") or host.startswith(("/", "@"))
