"""A server's metrics, in Prometheus format. No label names a tenant, a key, or anything stored.

Each server has its own registry, so that several in one process count separately. The workers of one server share what
they have counted, and each answers for all.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from xtrace_server.metrics_board import Family, MetricsPlace, merged

_log = logging.getLogger("xtrace")

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
UNMATCHED: Final = "unmatched"
"""The route of a request to an unknown path: the client chose the path, so it must not become a label."""

SHOWN_EVERY_S: Final = 1.0
"""The maximum age of what a worker reports about the others."""

Reading: TypeAlias = Callable[[], float]
"""Reads a value each time the metrics are requested."""
DATABASE_SIZES: Final = {
    "database_bytes": "Bytes of the database's file.",
    "database_log_bytes": "Bytes of the database's write-ahead log.",
}
CLUSTER: Final = {
    "nodes": "Nodes of the Ray cluster that compute searches; 0 without a cluster.",
    "held_bytes": "Bytes of ciphertexts that these nodes hold, for all servers.",
}

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one server. All names begin with `xtrace_`; sizes are in bytes and times in seconds."""

    def __init__(self, place: MetricsPlace | None = None) -> None:
        """`place` is where a worker shares its counts."""
        self._place = place
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by route, method and status.", "route", "method", "status")
        self.request_seconds = self._histogram(
            "request_seconds", "From the first byte of a request to the last of its answer.", "route"
        )
        self.requests_in_flight = self._gauge("requests_in_flight", "Requests in flight.")
        self.received_bytes = self._counter("received_bytes", "Bytes of request bodies.")
        self.sent_bytes = self._counter("sent_bytes", "Bytes of answers' bodies.")
        self.refusals = self._counter("refusals", "Requests that failed, by the code of the error.", "code")
        self.searches = self._counter("searches", "Searches, by the source of their rows.", "rows")
        self.candidates = self._counter("candidates_scanned", "Rows that searches computed answers for.")
        self.cache_evictions = self._counter("cache_evictions", "Bindings evicted from the cache.")
        self.blocks_sealed = self._counter("blocks_sealed", "Blocks of vectors that clients have stored.")
        self.blocks_scanned = self._counter("blocks_scanned", "Blocks of vectors that searches computed with.")
        self.block_bodies_loaded = self._counter(
            "block_bodies_loaded", "Blocks of vectors that searches read from the database, because no file had them."
        )
        self.shared_indexes_stored = self._counter(
            "shared_indexes_stored", "Shared indexes that clients have stored or replaced."
        )
        self.transactions = self._counter("database_transactions", "Transactions of the database.", "kind")
        self.transaction_seconds = self._histogram(
            "database_transaction_seconds",
            "How long transactions were open, including the wait for a connection.",
            "kind",
        )
        self.loop_delay_seconds = Histogram(
            "xtrace_event_loop_delay_seconds",
            "How late the event loop runs what is due.",
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
        )
        self.slow_statements = self._counter("slow_statements", "Statements that took slow_statement_s or longer.")
        self.database_errors = self._counter("database_errors", "Statements that the database refused.")
        self.rate_store_errors = self._counter("rate_store_errors", "Questions that the rate store did not answer.")

    def watch_memory(self, parts: Mapping[str, Reading]) -> None:
        """Reports the used part of `memory_bytes`, by purpose."""
        gauge = self._gauge("memory_bytes", "Bytes taken of memory_bytes, by what they are taken for.", "part")
        for part, held in parts.items():
            gauge.labels(part).set_function(held)

    def watch_database(self, sizes: Mapping[str, Reading]) -> None:
        """Reports the sizes of the database, by the names in `DATABASE_SIZES`."""
        for name, size in sizes.items():
            self._gauge(name, DATABASE_SIZES[name]).set_function(size)

    def watch_cluster(self, readings: Mapping[str, Reading]) -> None:
        """Reports the cluster, by the names in `CLUSTER`."""
        for name, reading in readings.items():
            self._gauge(f"cluster_{name}", CLUSTER[name]).set_function(reading)

    def watch_block_files(self, size: Reading) -> None:
        """Reports the bytes of the files with searched blocks."""
        self._gauge("block_files_bytes", "Bytes of the files with searched blocks of vectors.").set_function(size)

    def workers(self) -> tuple[int, int]:
        """Returns how many processes of this server serve, and how many there should be; this one is among them."""
        if self._place is None:
            return 1, 1
        wanted = self._place.board.places - 1  # one is for a successor
        return min(max(1, self._place.board.occupied()), wanted), wanted

    def text(self) -> bytes:
        """Returns the metrics of all workers together, in Prometheus' text format."""
        if self._place is None:
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        of_all.register(_Sums(merged([self._counted(), *self._place.board.all_but(self._place.number)])))
        return generate_latest(of_all)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Shares the counts with the other workers, while the block runs and when it ends."""
        if self._place is None:
            yield
            return
        task = asyncio.get_running_loop().create_task(self._show_often())
        try:
            yield
        finally:
            task.cancel()
            self._show()

    async def _show_often(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(SHOWN_EVERY_S)

    def _show(self) -> None:
        if self._place is not None:
            try:
                self._place.board.write(self._place.number, self._counted())
            except ValueError:
                _log.exception("the metrics of this worker are not visible to the other workers")

    def _counted(self) -> list[Family]:
        return [
            Family(
                one.name, one.documentation, one.type, [(each.name, each.labels, each.value) for each in one.samples]
            )
            for one in self.registry.collect()
        ]

    def _counter(self, name: str, explanation: str, *labels: str) -> Counter:
        return Counter(f"xtrace_{name}", explanation, labels, registry=self.registry)

    def _gauge(self, name: str, explanation: str, *labels: str) -> Gauge:
        return Gauge(f"xtrace_{name}", explanation, labels, registry=self.registry)

    def _histogram(self, name: str, explanation: str, *labels: str) -> Histogram:
        return Histogram(f"xtrace_{name}", explanation, labels, registry=self.registry, buckets=_SECONDS)


class _Sums(Collector):
    """The sums of several workers, as a collector for Prometheus' library."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric
