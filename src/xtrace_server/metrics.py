"""What a server counts about itself, in the form of Prometheus. No label names a tenant, a key, or anything stored.

Each server has a registry of its own, so that several in one process count apart.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
UNMATCHED: Final = "unmatched"
"""The route of a request that reaches none: its path is the client's choice, and so no label."""

Reading: TypeAlias = Callable[[], float]
"""Reads a value whenever the metrics are asked for."""
DATABASE_SIZES: Final = {
    "database_bytes": "Bytes of the database's file.",
    "database_log_bytes": "Bytes of the database's write-ahead log.",
}

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one server. All names begin with `xtrace_`, sizes are bytes and times seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by route, method and status.", "route", "method", "status")
        self.request_seconds = self._histogram(
            "request_seconds", "From the first byte of a request to the last of its answer.", "route"
        )
        self.requests_in_flight = self._gauge("requests_in_flight", "Requests that are worked on.")
        self.received_bytes = self._counter("received_bytes", "Bytes of request bodies.")
        self.sent_bytes = self._counter("sent_bytes", "Bytes of answers' bodies.")
        self.refusals = self._counter("refusals", "Requests that failed, by the code of the error.", "code")
        self.searches = self._counter("searches", "Searches, by where their rows were.", "rows")
        self.candidates = self._counter("candidates_scanned", "Rows that searches multiplied with a query.")
        self.cache_evictions = self._counter("cache_evictions", "Bindings that made room for others in the cache.")
        self.transactions = self._counter("database_transactions", "Transactions of the database.", "kind")
        self.transaction_seconds = self._histogram(
            "database_transaction_seconds", "How long transactions were open, with the wait for a connection.", "kind"
        )
        self.loop_delay_seconds = Histogram(
            "xtrace_event_loop_delay_seconds",
            "How late the event loop comes to what is due: what waits besides.",
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
        )
        self.database_errors = self._counter("database_errors", "Statements that the database refused.")

    def watch_cache(self, held_bytes: Reading) -> None:
        """Reports what the search engine's cache holds."""
        self._gauge("cache_bytes", "Bytes of ciphertexts in the search engine's cache.").set_function(held_bytes)

    def watch_database(self, sizes: Mapping[str, Reading]) -> None:
        """Reports the sizes of the database that are known of its kind, by their names."""
        for name, size in sizes.items():
            self._gauge(name, DATABASE_SIZES[name]).set_function(size)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, explanation: str, *labels: str) -> Counter:
        return Counter(f"xtrace_{name}", explanation, labels, registry=self.registry)

    def _gauge(self, name: str, explanation: str) -> Gauge:
        return Gauge(f"xtrace_{name}", explanation, registry=self.registry)

    def _histogram(self, name: str, explanation: str, *labels: str) -> Histogram:
        return Histogram(f"xtrace_{name}", explanation, labels, registry=self.registry, buckets=_SECONDS)
