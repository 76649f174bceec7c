"""`python -m benchmarks`: one table of the whole; `--scheme` and the sizes choose what is measured."""

import argparse
import asyncio

from benchmarks.harness import machine, table
from benchmarks.schemes import scheme_benchmarks
from benchmarks.searching import search_benchmarks
from benchmarks.service import service_benchmarks


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scheme", action="append", choices=("paillier_lookup", "paillier"))
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--key-len", type=int, default=1024)
    parser.add_argument("--chunks", type=int, default=2000, help="size of the searched knowledge base; 0 for none")
    parser.add_argument("--stored", type=int, default=0, help="size of the knowledge base for the service alone")
    arguments = parser.parse_args()
    schemes = arguments.scheme or ["paillier_lookup"]
    print(f"{machine()}\n{arguments.dimensions} dimensions, key_len {arguments.key_len}, one process a side\n")
    rows = [row for scheme in schemes for row in scheme_benchmarks(scheme, arguments.dimensions, arguments.key_len)]
    if arguments.chunks:
        rows += asyncio.run(search_benchmarks(arguments.chunks, arguments.dimensions, arguments.key_len))
    if arguments.stored:
        rows += asyncio.run(service_benchmarks(arguments.stored, arguments.key_len))
    print(table(rows))


main()
