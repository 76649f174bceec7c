"""Sessions of the dashboard: signing in with a key, and ending sessions."""

import hmac
from dataclasses import dataclass

from xtrace_core.wire import ADMIN_KEY_HEADER, OPERATOR_KEY_HEADER, ORGANISATION_HEADER
from xtrace_server.auth.guard import Actor, Operator
from xtrace_server.auth.keys import hash_key
from xtrace_server.auth.sessions import OperatorSignedIn, SignedIn, ends, hash_token, new_token
from xtrace_server.errors import PermissionDenied, Unauthenticated
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import operating, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import sessions
from xtrace_server.storage.audit import Event
from xtrace_server.storage.database import THE_SERVICE, Connection
from xtrace_server.storage.sessions import Session

_MAX_ORGANISATION_ID = 64


@dataclass(frozen=True, slots=True, repr=False)
class NewSession:
    """A session that was just opened, with its token, which only the caller has."""

    session: Session
    token: str


async def sign_in(state: ServerState, organisation_id: str, admin_key: str, request_id: str) -> NewSession:
    """Opens a session for an organisation's admin key.

    Raises `Unauthenticated`, which the organisation's audit log records, `OrganisationSuspended` and `RateLimited`.
    """
    headers = {ORGANISATION_HEADER: organisation_id, ADMIN_KEY_HEADER: admin_key}
    try:
        actor = await state.guard.actor(headers, request_id)
    except (Unauthenticated, PermissionDenied) as error:
        if 0 < len(organisation_id) <= _MAX_ORGANISATION_ID:
            state.denials.add(organisation_id, _denied(error, "POST /sign-in"))
        raise
    return await _open_for_actor(state, actor)


async def sign_in_operator(state: ServerState, operator_key: str, request_id: str) -> NewSession:
    """Opens a session for the operator key. Raises `Unauthenticated` and `RateLimited`."""
    try:
        operator = await state.guard.operator({OPERATOR_KEY_HEADER: operator_key}, request_id)
    except Unauthenticated as error:
        state.denials.add(THE_SERVICE, _denied(error, "POST /operator/sign-in"))
        raise
    async with operating(state.database, operator) as connection:
        new = await open_session(state, connection, THE_SERVICE, operator.key_hash)
        await record(connection, operator.to(THE_SERVICE), "session.start", "dashboard")
    return new


def check_key(caller: SignedIn | OperatorSignedIn, key: str) -> None:
    """Raises `Unauthenticated` unless the key is the one with which the session was opened.

    Used where a stolen session alone must not be enough.
    """
    if not hmac.compare_digest(hash_key(key), caller.session.key_hash):
        raise Unauthenticated("the key is not the one that this session was opened with; nothing was changed")


@repeatable
async def sign_out(state: ServerState, caller: SignedIn | OperatorSignedIn) -> None:
    """Ends the caller's own session."""
    async with state.database.write(caller.organisation_id, urgent=True) as connection:
        await sessions.end(connection, caller.organisation_id, caller.session.hash)


@repeatable
async def end(state: ServerState, caller: SignedIn | OperatorSignedIn, session_hash: str) -> bool:
    """Ends a session of the same organisation, or of the operator; returns whether there was one."""
    async with state.database.write(caller.organisation_id, urgent=True) as connection:
        await _check_current(connection, caller)
        ended = await sessions.end(connection, caller.organisation_id, session_hash)
        if ended:
            await record(connection, _actor(caller), "session.end", "dashboard")
    return ended


@repeatable
async def end_all(state: ServerState, caller: SignedIn | OperatorSignedIn) -> int:
    """Ends every session of the organisation or of the operator, including the caller's; returns their number."""
    async with state.database.write(caller.organisation_id, urgent=True) as connection:
        await _check_current(connection, caller)
        ended = await sessions.end_all(connection, caller.organisation_id)
        await record(connection, _actor(caller), "session.end_all", "dashboard", f"{ended} sessions")
    return ended


async def list_all(state: ServerState, caller: SignedIn | OperatorSignedIn) -> list[Session]:
    """Returns the active sessions of the organisation or of the operator, most recently used first."""
    async with state.database.look_up() as connection:
        return await sessions.list_all(connection, caller.organisation_id, ends(state.settings))


@repeatable
async def claim_form(state: ServerState, caller: SignedIn | OperatorSignedIn, nonce: str) -> bool:
    """Returns whether a form of the session is sent for the first time, and remembers that it was sent."""
    async with state.database.write(caller.organisation_id, urgent=True) as connection:
        return await sessions.add_sent_form(connection, caller.session.hash, nonce)


@repeatable
async def _open_for_actor(state: ServerState, actor: Actor) -> NewSession:
    async with writing(state, actor) as connection:
        new = await open_session(state, connection, actor.organisation_id, actor.name)
        await record(connection, actor, "session.start", "dashboard")
    return new


async def open_session(state: ServerState, connection: Connection, organisation_id: str, key_hash: str) -> NewSession:
    """Opens a session for a key in the caller's transaction, and deletes sessions that have ended."""
    token = new_token()
    await sessions.remove_ended(connection, ends(state.settings))
    await sessions.create(connection, hash_token(token), organisation_id, key_hash)
    found = await sessions.find(connection, hash_token(token))
    if found is None:
        raise RuntimeError("a session that was just opened is missing")
    return NewSession(found, token)


async def _check_current(connection: Connection, caller: SignedIn | OperatorSignedIn) -> None:
    who: Actor | Operator = caller.actor if isinstance(caller, SignedIn) else caller.operator
    await who.check_current(connection)


def _actor(caller: SignedIn | OperatorSignedIn) -> Actor:
    return caller.actor if isinstance(caller, SignedIn) else caller.operator.to(THE_SERVICE)


def _denied(error: Unauthenticated | PermissionDenied, where: str) -> Event:
    return Event(action=f"denied.{error.code}", actor=error.key_hash or "unknown", detail=where)
