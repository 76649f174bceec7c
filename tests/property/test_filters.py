"""The filters as a database evaluates them, against the plain-Python evaluator."""

import asyncio
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.database import open_store, without_limit
from support.filter_strategies import filters, meta_data
from support.reference_filter import matches
from xtrace_server.storage import chunks, knowledge_bases
from xtrace_server.storage.schema import chunk_id_of


async def _found(stored: list[dict[str, Any]], asked: list[dict[str, Any]]) -> list[list[int]]:
    with TemporaryDirectory() as folder:
        async with open_store(Path(folder)) as store:
            await store.add(stored)
            found = []
            async with store.database.look_up() as connection:
                kb = await knowledge_bases.get(connection, store.kb.organisation_id, store.kb.id)
                for filter_ in asked:
                    candidates = replace(store.candidates(filter_), kb=kb)
                    pks = await chunks.matching_pks(connection, candidates, without_limit)
                    assert len(pks) == await chunks.count_matching(connection, candidates)
                    found.append([chunk_id_of(pk) for pk in pks])
            return found


@pytest.mark.usefixtures("database")
@settings(max_examples=40, deadline=None)
@given(st.lists(meta_data, min_size=1, max_size=12), st.lists(filters, min_size=1, max_size=25))
def test_the_database_and_the_reference_agree(stored: list[dict[str, Any]], asked: list[dict[str, Any]]) -> None:
    kept = [
        {key: list(dict.fromkeys(value)) if key == "facets" else value for key, value in one.items()} for one in stored
    ]
    expected = [[i for i, one in enumerate(kept, 1) if matches(filter_, one)] for filter_ in asked]
    assert asyncio.run(_found(stored, asked)) == expected
