"""Checks what the host offers a server: ports, open files, memory, processors."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from xtrace_server.checking.findings import Finding, error, ok, warning
from xtrace_server.descriptors import OWN
from xtrace_server.listening import is_loopback, listen
from xtrace_server.settings import Settings

PROCESS_BYTES: Final = 200 * 2**20
"""The memory that a server needs besides `memory_bytes`."""
_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Checks whether the server can listen, and whether others can read its network traffic."""
    dashboard_port = settings.dashboard_port if settings.dashboard else None
    ports = (("port", settings.port), ("ops_port", settings.ops_port), ("dashboard_port", dashboard_port))
    for name, port in ports:
        if port is None:
            continue
        try:
            listen(settings.host, port).close()
        except OSError as failed:
            yield error(
                f"cannot listen on {settings.host} port {port}: {failed.strerror}; stop the program that listens "
                f"there, or choose another address (host, {name})"
            )
        else:
            yield ok(f"{settings.host} port {port} is free." if port else "The server will select a free port.")
    if not settings.tls_certificate and not is_loopback(settings.host):
        yield warning(
            f"listening on {settings.host} without TLS: keys and metadata cross the network in plaintext; set "
            "tls_certificate and tls_key, or allow only a TLS proxy to connect"
        )


def check_descriptors(settings: Settings) -> Iterator[Finding]:
    """Checks whether the process may open enough files for its connections."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return

    wanted = settings.max_connections + OWN
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        yield warning(
            f"the system allows {hard} open files, which is enough for {max(hard - OWN, 0)} connections, but "
            f"max_connections is {settings.max_connections}: raise the limit (ulimit -n, LimitNOFILE=) to {wanted}, or "
            "lower max_connections"
        )
    else:
        yield ok(f"The system allows the {wanted} open files that max_connections needs.")


def check_memory(settings: Settings) -> Iterator[Finding]:
    """Checks whether the host, or its control group (a container), has enough memory."""
    allowed = memory_limit()
    needed = (settings.of_worker.memory_bytes + PROCESS_BYTES) * settings.workers
    if allowed is None:
        return
    if allowed < needed:
        yield warning(
            f"the server needs {needed // 2**20} MiB (memory_bytes, and 200 MiB a process), but has "
            f"{allowed // 2**20} MiB: lower memory_bytes and cache_bytes, or give it more memory"
        )
    else:
        yield ok(f"The server needs up to {needed // 2**20} MiB of the {allowed // 2**20} MiB available.")


def check_processors(settings: Settings) -> Iterator[Finding]:
    """Checks whether each search thread has a processor."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = settings.search_threads * settings.workers
    if settings.search_threads > 1 and threads > processors:
        for_whom = f" for each of {settings.workers} workers" if settings.workers > 1 else ""
        yield warning(
            f"search_threads is {settings.search_threads}{for_whom}, but there are {processors} processors: lower "
            "it, because searches would wait for each other"
        )


def memory_limit() -> int | None:
    """Returns the memory that this process may use; None if the system does not say."""
    limits = []
    with suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # a control group without a limit says "max"
            limits.append(int(file.read_text()))
    return min(limits, default=None)
