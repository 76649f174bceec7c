"""Names that one chunk of a binding has, where its writer asked for that; the database's index holds it.

A chunk that was stored so has the hash of its name in `unique_name`. It stays so through every later write: a change of
its name or of its binding is a conflict where another chunk has the name. An empty name never conflicts.
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
    """Where a name counts, and the name."""

    binding_pk: int
    name: str


async def find(connection: AsyncConnection, binding: Binding, names: Collection[str]) -> dict[str, int]:
    """The keys of the chunks of the binding that have these unique names, by name; what was deleted has none.

    In a writing transaction.
    """
    return await _holders(connection, binding.pk, names)


async def release(connection: AsyncConnection, places: Mapping[int, Place]) -> dict[int, Place]:
    """Frees the unique names of those chunks that are about to have another place, and gives their new places.

    `places` has the new ones by the chunks' keys; chunks without a unique name have none afterwards either. `claim`
    must follow when the chunks are written: in between, names can change hands within one write.
    """
    moving: dict[int, Place] = {}
    for step in steps(places):
        query = select(_c.pk, _c.binding_pk, _c.name).where(_c.pk.in_(step), _c.unique_name.is_not(None))
        before = {pk: Place(binding_pk, name) for pk, binding_pk, name in await connection.execute(query)}
        # In the order of the write, whatever order the database has: a conflict names the later chunk.
        moving |= {pk: places[pk] for pk in step if pk in before and places[pk] != before[pk]}
    for step in steps(moving):
        await connection.execute(update(chunk).where(_c.pk.in_(step)).values(unique_name=None))
    return moving


async def claim(connection: AsyncConnection, places: Mapping[int, Place]) -> None:
    """Gives chunks, by their keys, the unique names that `release` returned. Raises `NamesTaken`, naming the chunks."""
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
