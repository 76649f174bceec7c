"""Sessions of the dashboard: the token in a cookie represents the key with which the session was opened.

A session never allows more than its key does at that moment: every request looks the key up, so a revoked key or a
suspended organisation takes effect at once.
"""

import asyncio
import contextvars
import hashlib
import logging
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from xtrace_server.auth.guard import Actor, Operator, check_not_suspended
from xtrace_server.errors import Unavailable
from xtrace_server.limits.rate_limit import RateLimit
from xtrace_server.settings import Settings
from xtrace_server.storage import operator_keys, organisations, sessions
from xtrace_server.storage.database import THE_SERVICE, Database, StorageError, format_time
from xtrace_server.storage.organisations import Organisation
from xtrace_server.storage.sessions import Ends, Session

TOKEN_BYTES: Final = 32
_USE_RECORDED_EVERY_S: Final = 20.0
_MAX_REMEMBERED: Final = 10_000
_TOKEN_CHARACTERS: Final = 43

_log = logging.getLogger("xtrace.auth")


class NotSignedIn(Exception):
    """A page needs a session. Raised only in the dashboard, which answers with the sign-in form."""

    def __init__(self, *, ended: bool) -> None:
        """`ended` means that a session existed, but has ended or its key was revoked."""
        super().__init__("the session has ended" if ended else "sign in first")
        self.ended = ended


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An administrator of an organisation with a session."""

    actor: Actor
    organisation: Organisation
    session: Session

    @property
    def organisation_id(self) -> str:
        return self.actor.organisation_id


@dataclass(frozen=True, slots=True)
class OperatorSignedIn:
    """The server's operator with a session."""

    operator: Operator
    session: Session

    @property
    def organisation_id(self) -> str:
        return THE_SERVICE


def new_token() -> str:
    """Returns a new token. The server stores only its hash."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> str:
    """Returns the stored form of a token: its SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def ends(settings: Settings) -> Ends:
    """Returns the times before which a session's last use, or its start, means that it has ended."""
    moment = datetime.now(UTC)
    idle, longest = timedelta(seconds=settings.dashboard_idle_s), timedelta(seconds=settings.dashboard_session_s)
    return Ends(format_time(moment - idle), format_time(moment - longest))


class Sessions:
    """Turns the token of a request into a caller."""

    def __init__(self, database: Database, settings: Settings, rate_limit: RateLimit) -> None:
        self._database = database
        self._settings = settings
        self._rate_limit = rate_limit
        self._use_recorded: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def signed_in(self, token: str | None, request_id: str, *, is_use: bool = True) -> SignedIn:
        """Returns the administrator with this token; `is_use` extends the session.

        Raises `NotSignedIn`, `OrganisationSuspended` and `RateLimited`.
        """
        session = await self._session(token, is_use)
        async with self._database.look_up() as connection:
            found = await organisations.find_admin_key(connection, session.key_hash)
        if found is None or session.organisation_id != found[1].id:
            raise NotSignedIn(ended=True)
        await self._rate_limit.count(session.key_hash)
        check_not_suspended(*found)
        actor = Actor(found[1].id, session.key_hash, request_id, has_key=True)
        return SignedIn(actor, found[1], session)

    async def operator(self, token: str | None, request_id: str, *, is_use: bool = True) -> OperatorSignedIn:
        """Returns the operator with this token.

        Raises `NotSignedIn` and `RateLimited`.
        """
        session = await self._session(token, is_use)
        async with self._database.look_up() as connection:
            found = await operator_keys.find(connection, session.key_hash)
        if found is None or session.organisation_id != THE_SERVICE:
            raise NotSignedIn(ended=True)
        await self._rate_limit.count(session.key_hash)
        return OperatorSignedIn(Operator(session.key_hash, request_id), session)

    async def close(self) -> None:
        """Waits until every use of a session is recorded."""
        await asyncio.gather(*self._tasks)

    async def _session(self, token: str | None, is_use: bool) -> Session:
        if token is None:
            raise NotSignedIn(ended=False)
        if len(token) != _TOKEN_CHARACTERS:
            raise NotSignedIn(ended=True)
        async with self._database.look_up() as connection:
            session = await sessions.find(connection, hash_token(token))
        if session is None or ends(self._settings).is_over(session):
            raise NotSignedIn(ended=True)
        if is_use:
            self._record_use(session)
        return session

    def _record_use(self, session: Session) -> None:
        # In the background and not for every request: otherwise, every page would wait for the disk.
        moment = time.monotonic()
        if moment - self._use_recorded.get(session.hash, -_USE_RECORDED_EVERY_S) < _USE_RECORDED_EVERY_S:
            return
        if len(self._use_recorded) >= _MAX_REMEMBERED:
            self._use_recorded.clear()
        self._use_recorded[session.hash] = moment
        # In a context of its own: the deadline of the request must not apply.
        task = asyncio.get_running_loop().create_task(self._write_use(session.hash), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_use(self, session_hash: str) -> None:
        try:
            async with self._database.write(urgent=True) as connection:
                await sessions.record_use(connection, session_hash)
        except (StorageError, Unavailable):
            self._use_recorded.pop(session_hash, None)
            _log.warning("the last use of a session could not be recorded")
