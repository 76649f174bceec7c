"""Checks settings that are valid individually, but contradict each other."""

from collections.abc import Iterator

from xtrace_core import limits
from xtrace_server.checking.findings import Finding, error, ok, warning
from xtrace_server.schemes import SchemeUnusable, load_schemes
from xtrace_server.search import scanners
from xtrace_server.search.scanners import EngineUnusable
from xtrace_server.settings import Settings


def check_bodies(settings: Settings) -> Iterator[Finding]:
    """Compares the limits of one request with the size of its body, and with what clients send."""
    found = [
        f"{name} is {value}, but a body has at most {settings.max_body_bytes} bytes (max_body_bytes): raise that, or "
        f"lower {name}"
        for name in ("max_content_bytes", "max_filter_bytes", "max_context_bytes")
        if (value := getattr(settings, name)) > settings.max_body_bytes
    ]
    if settings.max_chunks > settings.max_write_cost:
        found.append(
            f"max_chunks is {settings.max_chunks}, but chunks cost at least 1 each and max_write_cost is "
            f"{settings.max_write_cost}: raise that, or lower max_chunks"
        )
    sent = (("max_chunks", limits.MAX_CHUNKS), ("max_write_cost", limits.MAX_WRITE_COST), ("max_ids", limits.MAX_IDS))
    for name, usual in sent:
        if (value := getattr(settings, name)) < usual:
            found.append(
                f"{name} is {value}, but clients send up to {usual} in one request, and the server rejects more: "
                f"raise {name}, or make clients send less at a time"
            )
    yield from map(warning, found)
    if not found:
        yield ok("The limits of requests fit together, and what clients send fits into them.")


def check_requests(settings: Settings) -> Iterator[Finding]:
    """Checks the limits of concurrent requests."""
    if settings.max_requests_each > settings.max_requests:
        yield warning(
            f"max_requests_each is {settings.max_requests_each} and max_requests is {settings.max_requests}: one "
            "organisation can block all others; lower max_requests_each"
        )
    if settings.max_requests > settings.max_connections:
        yield warning(
            f"max_requests is {settings.max_requests}, but a connection has one request at a time and max_connections "
            f"is {settings.max_connections}: raise max_connections, or lower max_requests"
        )


def check_times(settings: Settings) -> Iterator[Finding]:
    """Finds time limits that another one makes useless."""
    for name in ("max_filter_s", "database_timeout_s"):
        if (value := getattr(settings, name)) > settings.request_timeout_s:
            yield warning(
                f"{name} is {value:g}, but a request ends after {settings.request_timeout_s:g} seconds "
                f"(request_timeout_s): raise that, or lower {name}"
            )


def check_engine(settings: Settings) -> Iterator[Finding]:
    """Checks whether the engine is installed."""
    try:
        scanners.check_engine(settings)
    except EngineUnusable as unusable:
        yield error(f"{unusable}, or set engine to local")


def check_schemes(settings: Settings) -> Iterator[Finding]:
    """Warns of schemes without encryption."""
    if settings.insecure_schemes:
        try:
            load_schemes(settings.insecure_schemes)
        except SchemeUnusable as unusable:
            yield error(f"{unusable}: correct or unset insecure_schemes")
        else:
            yield warning(
                "insecure_schemes is set: contexts without encryption are accepted; unset it outside of tests"
            )
