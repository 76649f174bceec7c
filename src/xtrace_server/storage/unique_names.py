"""Names that are unique within a binding, if the writer asked for that; an index of the database enforces it.

Such a chunk has the hash of its name in `unique_name`, and keeps this property through every later write: changing its
name or binding conflicts if another chunk has the name. An empty name never conflicts.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.errors import NamesTaken
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.deletions import free_names
from xtrace_server.storage.schema import chunk, chunk_id_of, unique_key
from xtrace_server.storage.steps import steps

_c = chunk.c


class Place(NamedTuple):
    """A binding and a name in it."""

    binding_pk: int
    name: str


async def find(connection: AsyncConnection, binding: Binding, names: Collection[str]) -> dict[str, int]:
    """Returns the keys of the binding's chunks with these unique names, by name; deleted chunks have none.

    In a writing transaction.
    """
    return await _holders(connection, binding.pk, names)


async def release(connection: AsyncConnection, places: Mapping[int, Place]) -> dict[int, Place]:
    """Frees the unique names of the chunks that are about to change their place, and returns their new places.

    `places` contains the new ones by the chunks' keys; chunks without a unique name do not get one. `claim` must follow
    once the chunks are written: in between, chunks can exchange names within one write.
    """
    moving: dict[int, Place] = {}
    for step in steps(places):
        query = select(_c.pk, _c.binding_pk, _c.name).where(_c.pk.in_(step), _c.unique_name.is_not(None))
        before = {pk: Place(binding_pk, name) for pk, binding_pk, name in await connection.execute(query)}
        # In the order of the write, not of the database: a conflict names the later chunk.
        moving |= {pk: places[pk] for pk in step if pk in before and places[pk] != before[pk]}
    for step in steps(moving):
        await connection.execute(update(chunk).where(_c.pk.in_(step)).values(unique_name=None))
    return moving


async def claim(connection: AsyncConnection, places: Mapping[int, Place]) -> None:
    """Assigns the unique names from `release` to chunks by their keys. Raises `NamesTaken`, which names the chunks."""
    named = {pk: place for pk, place in places.items() if place.name}
    by_binding: dict[int, dict[str, int]] = {}
    taken = []
    for pk, place in named.items():
        if by_binding.setdefault(place.binding_pk, {}).setdefault(place.name, pk) != pk:
            taken.append(pk)
    for binding_pk, wanted in by_binding.items():
        taken += [wanted[name] for name in await _holders(connection, binding_pk, wanted)]
    if taken:
        raise NamesTaken.of_chunks([chunk_id_of(pk) for pk in sorted(taken)])
    statement = update(chunk).where(_c.pk == bindparam("this_pk"))
    for step in steps(named.items()):
        values = [{"this_pk": pk, "unique_name": unique_key(place.name)} for pk, place in step]
        await connection.execute(statement, values)


async def _holders(connection: AsyncConnection, binding_pk: int, names: Collection[str]) -> dict[str, int]:
    await free_names(connection, binding_pk, names)
    found: dict[str, int] = {}
    for step in steps(map(unique_key, names)):
        query = select(_c.name, _c.pk).where(_c.binding_pk == binding_pk, _c.unique_name.in_(step))
        found |= {row.name: row.pk for row in await connection.execute(query)}
    return found
