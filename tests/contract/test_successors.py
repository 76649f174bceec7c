"""A context is rotated into one other context only, however many rotations begin."""

import asyncio
from pathlib import Path

import pytest

from contract.test_rotation import COUNT, expect_everything, load, new_context, number_under, successor
from support.service import Http, ok, problem
from xtrace_sdk.errors import ContextNotFound, OtherRotation
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.upkeep.rotation import rotate


async def test_a_rotation_begun_again_under_another_name_moves_nothing(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    other_kb = (await xtrace.create_kb("other")).id
    await load(old, xtrace, other_kb)
    first, second = (successor(old, tmp_path / name) for name in ("first", "second"))
    assert (await rotate(first, xtrace, [kb_id])).total == COUNT  # and is cut off there
    for options in ({}, {"dry_run": True}, {"finish": True}, {"remove_old": True}):
        with pytest.raises(OtherRotation, match=first.id) as refusal:
            await rotate(second, xtrace, **options)  # type: ignore[arg-type]
        assert refusal.value.successor == first.id
    with pytest.raises(OtherRotation):
        await rotate(second, xtrace, instead_of="a wrong guess")
    assert await number_under(old, xtrace, other_kb) == COUNT
    assert (await rotate(first, xtrace, remove_old=True)).total == COUNT
    for kb in (kb_id, other_kb):
        await expect_everything(first, xtrace, kb)


async def test_what_is_left_is_rotated_anew_if_the_first_keys_are_lost(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    lost, new = (successor(old, tmp_path / name) for name in ("lost", "new"))
    await xtrace.store_successor(old.id, lost.id)
    dry = await rotate(new, xtrace, instead_of=lost.id, dry_run=True)
    assert dry.total == COUNT
    assert await xtrace.get_successor(old.id) == lost.id
    assert (await rotate(new, xtrace, instead_of=lost.id)).total == COUNT
    assert await xtrace.get_successor(old.id) == new.id
    with pytest.raises(OtherRotation):
        await rotate(lost, xtrace)
    await expect_everything(new, xtrace, kb_id)


async def test_of_rotations_that_begin_at_once_one_goes_on(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    successors = [successor(old, tmp_path / str(i)) for i in range(5)]
    ended = await asyncio.gather(*(rotate(one, xtrace) for one in successors), return_exceptions=True)
    refused = [one for one in ended if isinstance(one, OtherRotation)]
    assert len(refused) == 4
    (winner,) = {one.successor for one in refused}
    (context,) = [one for one in successors if one.id == winner]
    await expect_everything(context, xtrace, kb_id)


async def test_the_successor_of_an_unknown_context_is_not_found(xtrace: XTraceIntegration) -> None:
    with pytest.raises(ContextNotFound):
        await xtrace.get_successor("unknown")
    with pytest.raises(ContextNotFound):
        await xtrace.store_successor("unknown", "other")


def test_a_successor_is_exchanged_only_for_the_one_that_is_stored(http: Http) -> None:
    http.save_context()

    def put(**body: str) -> str | None:
        successor: str | None = ok(http.data("PUT", "/exec_context/{org}/ctx/successor", json=body))["successor"]
        return successor

    assert ok(http.data("GET", "/exec_context/{org}/ctx/successor")) == {"successor": None}
    assert put(successor="a", replaces="b") is None
    assert put(successor="a") == "a"
    assert put(successor="b") == "a"
    assert put(successor="b", replaces="c") == "a"
    assert put(successor="b", replaces="a") == "b"
    for bad in ("", "x" * 257):
        problem(http.data("PUT", "/exec_context/{org}/ctx/successor", json={"successor": bad}), 422, "invalid")
