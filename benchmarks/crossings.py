"""`python -m benchmarks.crossings`: what a search costs under each scheme, by the number of chunks.

Client and server are processes of their own, over loopback. Bytes and processor time are what does not depend on the
network or on other work of the machine; the page adds what links of a given speed take. Writes JSON; `python -m
benchmarks.crossings_page` makes the table of docs/schemes.md of it.
"""

import argparse
import json
import os
import secrets
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.end_to_end import service
from benchmarks.harness import machine
from xtrace_core.arithmetic import arithmetic
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

RESULTS = Path(__file__).parent / "crossings.json"
SCHEMES = ("paillier_lookup", "lattice")


def measure(sizes: list[int], lattice_sizes: list[int], dimensions: int) -> dict[str, Any]:
    """Everything. Bytes, and seconds of one search (medians): of the client's processors, and on the wall."""
    with tempfile.TemporaryDirectory() as name:
        rows = [
            row
            for scheme in SCHEMES
            for row in _scheme(Path(name), scheme, sizes + (lattice_sizes if scheme == "lattice" else []), dimensions)
        ]
    return {
        "machine": machine(),
        "processors": os.cpu_count(),
        "backend": arithmetic.name,
        "dimensions": dimensions,
        "rows": rows,
    }


def _scheme(folder: Path, scheme: str, sizes: list[int], dimensions: int) -> list[dict[str, Any]]:
    path, passphrase = folder / f"{scheme}.json", secrets.token_urlsafe()
    provider = PassphraseKeyProvider(passphrase, insecure_log2_n=1)
    ExecutionContext.create(provider, scheme, dimensions).save_to_disk(path)
    rows = []
    with service(folder / scheme, path, passphrase) as server:
        for size in sizes:
            kb_id = server.new_kb(f"{size}")
            loaded = server.do("load", kb_id, count=size)
            moved, search = server.do("transfer", kb_id), server.do("search", kb_id)
            rows.append(
                {
                    "scheme": scheme,
                    "count": size,
                    **{name: moved[name] for name in ("first_bytes_up", "first_bytes_down", "bytes_up", "bytes_down")},
                    "client": median(search["processor"]),
                    "loopback": median(search["seconds"]),
                    "load": loaded["seconds"],
                }
            )
    return rows


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crossings", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000, 10_000, 100_000])
    parser.add_argument("--lattice-sizes", type=int, nargs="*", default=[1_000_000], help="for `lattice` alone")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = measure(arguments.sizes, arguments.lattice_sizes, arguments.dimensions)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
