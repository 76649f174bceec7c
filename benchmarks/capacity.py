"""`python -m benchmarks.capacity`: what a load needs, in memory, processors, network and money.

    python -m benchmarks.capacity --chunks 1000000 --candidates 20000 --searches-per-s 50

The model is linear: a search costs something by itself and something for each candidate, a chunk costs bytes and
processor time once. `--measure` writes these costs to capacity.json, and `--page` what follows from them into
docs/scaling.md. `--check` measures at three other sizes, and fails unless the model predicts that within 20 %.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parent / "capacity.json"
TOLERANCE: Final = 0.2
BUSY: Final = 0.6
"""How much of a processor is planned for: beyond it, waiting grows faster than the load."""
_MONTH_S: Final = 730 * 3600
_PROCESS_BYTES: Final = 200 * 2**20
_REQUEST_BYTES: Final = 448 * 2**20
"""What a server keeps for requests, prepared queries and searches that are not in the cache (docs/operations.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Measured costs, for one ciphertext a chunk: 512 bits, key_len 1024. Times are of processors, not of clocks."""

    server_search_s: float
    """Of the server, for a search by itself."""
    server_row_s: float
    """Of the server, for each candidate in memory."""
    client_search_s: float
    """Of the client, for a search by itself: encrypting the query, the call."""
    client_row_s: float
    """Of the client, for each candidate: reading the answer and decrypting its distance."""
    server_insert_s: float
    """Of the server with SQLite, for each chunk inserted."""
    client_insert_s: float
    """Of the client, for each chunk encrypted and sent."""
    search_up_bytes: float
    search_down_bytes: float
    row_down_bytes: float
    """Bytes on the wire: of a search by itself in either direction, and of each candidate in the answer."""
    cached_row_bytes: float
    """Memory of the server for each chunk in its cache."""
    sqlite_chunk_bytes: float
    sqlite_content_factor: float
    postgres_chunk_bytes: float
    postgres_content_factor: float
    """Of the database: for a chunk without its content, and for each byte of encrypted content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of an installation."""

    chunks: int
    candidates: int
    """Chunks that one search is over: the knowledge base, or what a filter or a range leaves of it."""
    searches_per_s: float = 1.0
    content_bytes: int = 1100
    """Encrypted content of a chunk, with what is encrypted beside the text: about 1.4 times the text."""
    inserts_per_s: float = 0.0
    servers: int = 1
    """Each has a cache of its own, unless a cluster holds the rows."""
    cached_share: float = 1.0
    """Which part of the chunks is searched often enough to be kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """In any currency. The defaults are of the order of a large cloud's prices."""

    processor_hour: float = 0.04
    memory_gb_month: float = 3.0
    storage_gb_month: float = 0.1
    network_gb: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the load needs."""

    sqlite_bytes: float
    postgres_bytes: float
    memory_bytes: float
    """Of all servers together."""
    server_processors: float
    client_processors: float
    """Of all clients together."""
    network_bytes_per_s: float
    search_down_bytes: float
    search_server_s: float
    search_client_s: float
    money_per_million: float
    """For a million searches: their processors and network, and the share of a month's memory and storage."""


def plan(costs: Costs, load: Load, prices: Prices) -> Plan:
    """Returns what a load needs."""
    search_server = costs.server_search_s + costs.server_row_s * load.candidates
    search_client = costs.client_search_s + costs.client_row_s * load.candidates
    down = costs.search_down_bytes + costs.row_down_bytes * load.candidates
    cached = costs.cached_row_bytes * load.chunks * load.cached_share
    memory = (cached + _PROCESS_BYTES + _REQUEST_BYTES) * load.servers
    storage = [
        load.chunks * (fixed + factor * load.content_bytes)
        for fixed, factor in (
            (costs.sqlite_chunk_bytes, costs.sqlite_content_factor),
            (costs.postgres_chunk_bytes, costs.postgres_content_factor),
        )
    ]
    server = load.searches_per_s * search_server + load.inserts_per_s * costs.server_insert_s
    client = load.searches_per_s * search_client + load.inserts_per_s * costs.client_insert_s
    standing = (memory * prices.memory_gb_month + storage[1] * prices.storage_gb_month) / 1e9
    each = search_server / BUSY / 3600 * prices.processor_hour + down / 1e9 * prices.network_gb
    return Plan(
        sqlite_bytes=storage[0],
        postgres_bytes=storage[1],
        memory_bytes=memory,
        server_processors=server / BUSY,
        client_processors=client,
        network_bytes_per_s=load.searches_per_s * (down + costs.search_up_bytes),
        search_down_bytes=down,
        search_server_s=search_server,
        search_client_s=search_client,
        money_per_million=1e6 * (each + standing / (load.searches_per_s * _MONTH_S)),
    )


def measured() -> Costs:
    """The costs in capacity.json."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["costs"]
    return Costs(**{field.name: found[field.name] for field in fields(Costs)})


def shown(found: Plan) -> list[tuple[str, str]]:
    """The plan, a name and a figure each."""
    return [
        ("storage, SQLite", size(found.sqlite_bytes)),
        ("storage, PostgreSQL", size(found.postgres_bytes)),
        ("memory of all servers", size(found.memory_bytes)),
        ("processors of all servers", f"{found.server_processors:.1f}"),
        ("network out of the servers", f"{size(found.network_bytes_per_s)}/s"),
        ("one search, server", duration(found.search_server_s)),
        ("one search, client", duration(found.search_client_s)),
        ("one search, answer", size(found.search_down_bytes)),
        ("a million searches", f"{found.money_per_million:,.2f}"),
    ]


def size(count: float) -> str:
    """Bytes, in a unit that suits."""
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= each:
            return f"{count / each:.3g} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Seconds, in a unit that suits."""
    if seconds >= 1:
        return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def main() -> None:
    """Prints a plan, or measures, or checks the model."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (*asdict(Load(chunks=1_000_000, candidates=20_000)).items(), *asdict(Prices()).items()):
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--measure", action="store_true", help="measure the costs, and write capacity.json")
    parser.add_argument(
        "--postgres",
        metavar="URL",
        help="an empty PostgreSQL database, for --measure, and for --check if it is to look there too",
    )
    parser.add_argument("--check", action="store_true", help="compare the model with measurements at three sizes")
    parser.add_argument("--blocks", action="store_true", help="all vectors are in blocks of the scheme `lattice`")
    parser.add_argument("--page", action="store_true", help="write the figures into docs/scaling.md")
    given = vars(parser.parse_args())
    if given["measure"]:
        from benchmarks.capacity_costs import measure

        if given["postgres"] is None:
            parser.error("--measure needs --postgres URL")
        RESULTS.write_text(json.dumps(measure(given["postgres"]), indent=1) + "\n", encoding="utf-8")
    elif given["check"]:
        from benchmarks.capacity_costs import check

        if not check(measured(), given["postgres"]):
            sys.exit(f"the model is off by more than {TOLERANCE:.0%}")
    elif given["page"]:
        from benchmarks.capacity_page import write

        write()
    else:
        load = Load(**{field.name: given[field.name] for field in fields(Load)})
        prices = Prices(**{field.name: given[field.name] for field in fields(Prices)})
        costs = measured()
        if given["blocks"]:
            from benchmarks import block_capacity

            costs = block_capacity.with_blocks(costs, block_capacity.measured())
        for name, figure in shown(plan(costs, load, prices)):
            print(f"{name:28} {figure:>12}")


if __name__ == "__main__":
    main()
