"""Shows how much of a local index has arrived while a command synchronises it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xtrace_cli.progress import long_work

if TYPE_CHECKING:
    from xtrace_sdk.collection.collection import Collection


@contextmanager
def shown_synchronisation(collection: "Collection") -> Iterator[None]:
    """Shows a progress bar if the block synchronises the local index of the collection for longer than a second.

    What has arrived is kept after Ctrl-C, and a message says so.
    """
    from xtrace_sdk.x_vec.local.arrivals import watched_arrivals

    def on_stop() -> str | None:
        kept = f"{work.done} chunks are in the local index of this machine, and the next search fetches the others"
        return kept if work.done else None

    total: int | None = None
    with long_work("Synchronising", on_stop=on_stop) as work:

        async def show(chunks: int, has_more: bool) -> None:
            nonlocal total
            if has_more and total is None and sys.stderr.isatty():
                total = await collection.count()
                work.set_total(total)
            # The index also has what the collection stores about itself.
            work.advance((chunks if total is None else min(chunks, total)) - work.done)

        with watched_arrivals(show):
            yield
