"""The one place that authenticates and authorises every request.

A route declares with `@requires` which kind of key it needs, and which permission on a knowledge base. The guard runs
before every route; the application does not start if a route declares nothing. It reads only headers and the path, and
leaves a *caller*. `ApiCaller.knowledge_base` is the only way from a `kb_id` to a knowledge base, and it checks the
declared permission.
"""

import asyncio
import contextvars
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from xtrace_core.permissions import Permission
from xtrace_core.wire import ADMIN_KEY_HEADER, API_KEY_HEADER, OPERATOR_KEY_HEADER, ORGANISATION_HEADER
from xtrace_server.auth.keys import hash_key, is_well_formed
from xtrace_server.errors import (
    KeyExpired,
    KnowledgeBaseNotFound,
    OrganisationSuspended,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from xtrace_server.limits.rate_limit import RateLimit
from xtrace_server.limits.request_counts import RequestCounts
from xtrace_server.storage import knowledge_bases, operator_keys, organisations, targets
from xtrace_server.storage.database import THE_SERVICE, Connection, Database, StorageError, now
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.organisations import ApiKey, Grant, Organisation
from xtrace_server.storage.targets import Target

_USE_RECORDED_EVERY_S = 60.0

_log = logging.getLogger("xtrace.auth")
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class Plane(Enum):
    """The kind of key that a route needs."""

    PUBLIC = "none"
    DATA = "API key"
    CONTROL = "admin key"
    OPERATOR = "operator key"
    VISITOR = "none, for a page of the dashboard"
    SESSION = "session of an admin key"
    OPERATOR_SESSION = "session of the operator key"

    @property
    def is_page(self) -> bool:
        """Whether the route belongs to the dashboard."""
        return self in (Plane.VISITOR, Plane.SESSION, Plane.OPERATOR_SESSION)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route requires. `permission` is needed on every knowledge base that the request names."""

    plane: Plane
    permission: Permission = Permission.NONE


PUBLIC = Rule(Plane.PUBLIC)
CONTROL = Rule(Plane.CONTROL)
OPERATOR = Rule(Plane.OPERATOR)
VISITOR = Rule(Plane.VISITOR)
"""A page of the dashboard that needs no session."""
SIGNED_IN = Rule(Plane.SESSION)
OPERATOR_SIGNED_IN = Rule(Plane.OPERATOR_SESSION)
MEMBER = Rule(Plane.DATA)
"""Any API key of the organisation."""
READER = Rule(Plane.DATA, Permission.READ)
WRITER = Rule(Plane.DATA, Permission.WRITE)
DELETER = Rule(Plane.DATA, Permission.DELETE)


def requires(rule: Rule) -> Callable[[_Endpoint], _Endpoint]:
    """Declares what a route requires."""

    def declare(endpoint: _Endpoint) -> _Endpoint:
        endpoint.__xtrace_rule__ = rule  # type: ignore[attr-defined]
        return endpoint

    return declare


def rule_of(endpoint: Any) -> Rule:
    """Returns what a route requires. Raises `LookupError` if it declares nothing."""
    rule = getattr(endpoint, "__xtrace_rule__", None)
    if not isinstance(rule, Rule):
        raise LookupError(f"the route {getattr(endpoint, '__qualname__', endpoint)!r} does not declare @requires")
    return rule


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """The holder of a valid API key of the organisation in the path."""

    key: ApiKey
    permission: Permission

    @property
    def organisation_id(self) -> str:
        return self.key.organisation_id

    async def knowledge_base(
        self, connection: Connection, kb_id: str, permission: Permission | None = None
    ) -> KnowledgeBase:
        """Returns the knowledge base if the key has the given permission, by default the one that the route declares.

        Raises `KnowledgeBaseNotFound` (also for another organisation's) and `PermissionDenied`.
        """
        needed = self.permission if permission is None else permission
        found = await organisations.permissions(connection, self.key, kb_id)
        if not found:
            raise KnowledgeBaseNotFound(kb_id)
        (grant,) = found
        self._check(grant, needed)
        return grant.kb

    async def target(self, connection: Connection, kb_id: str, context_id: str) -> Target:
        """Returns the same with a context and their binding, in one statement."""
        found = await targets.find(connection, self.key, kb_id, context_id)
        if found is None:
            raise KnowledgeBaseNotFound(kb_id)
        self._check(found.grant, self.permission)
        return found

    def _check(self, grant: Grant, needed: Permission) -> None:
        if needed == Permission.NONE:
            raise PermissionDenied("the route does not declare a permission on a knowledge base")
        if grant.permission & needed != needed:
            raise PermissionDenied(_denial(self.key, grant, needed), grant.kb.id)

    async def locked(self, connection: Connection, kb_id: str) -> KnowledgeBase:
        """Returns the same, locked until the end of the writing transaction: a write checks permissions again."""
        return await knowledge_bases.lock(connection, await self.knowledge_base(connection, kb_id))

    async def check_current(self, connection: Connection) -> None:
        """Raises what the guard raises if the key has stopped working since the request began.

        For writing transactions: later revocations, grants and suspensions wait for their end.
        """
        await organisations.hold(connection, self.organisation_id, self.key.hash)
        found = await organisations.find_api_key(connection, self.key.hash)
        if found is None:
            raise Unauthenticated("the API key was revoked during the request; nothing was changed")
        _check_usable(*found)

    async def readable(self, connection: Connection) -> set[str]:
        """Returns the ids of the knowledge bases that the key may read."""
        found = await organisations.permissions(connection, self.key)
        return {grant.kb.id for grant in found if grant.permission & Permission.READ}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes an organisation, as its audit log records it."""

    organisation_id: str
    name: str
    """The hash of the presented admin key, or the name of another actor."""
    request_id: str = ""
    has_key: bool = False
    """Whether an admin key was presented."""

    async def knowledge_base(self, connection: Connection, kb_id: str) -> KnowledgeBase:
        """Returns a knowledge base of the organisation, whose stored chunks its admin key may inspect.

        The admin key could create an API key for that anyway. Raises `KnowledgeBaseNotFound`.
        """
        return await knowledge_bases.get(connection, self.organisation_id, kb_id)

    async def check_current(self, connection: Connection) -> None:
        """Raises what the guard raises if the admin key has stopped working since the request began."""
        if not self.has_key:
            return
        await organisations.hold(connection, self.organisation_id, self.name)
        found = await organisations.find_admin_key(connection, self.name)
        if found is None:
            raise Unauthenticated("the admin key was revoked during the request; nothing was changed")
        check_not_suspended(*found)


@dataclass(frozen=True, slots=True)
class Operator:
    """The server's operator: with the operator key, or on the host."""

    key_hash: str = ""
    """The hash of the presented operator key; empty on the host."""
    request_id: str = ""

    @property
    def organisation_id(self) -> str:
        return THE_SERVICE

    def to(self, organisation_id: str) -> Actor:
        """Returns the same as an actor in the audit log of an organisation, or of `THE_SERVICE`."""
        return Actor(organisation_id, "operator", self.request_id)

    async def check_current(self, connection: Connection) -> None:
        """Raises `Unauthenticated` if the operator key was replaced since the request began."""
        if self.key_hash and await operator_keys.find(connection, self.key_hash) is None:
            raise Unauthenticated("the operator key was replaced during the request; nothing was changed")


ON_THE_HOST = Operator()
"""The operator on the host: a process that can write the server's database does not need a key."""


class _Headers(Protocol):
    def get(self, key: str, /) -> str | None: ...


class Guard:
    """Turns the headers of a request into a caller."""

    def __init__(self, database: Database, rate_limit: RateLimit, request_counts: RequestCounts) -> None:
        self._database = database
        self._rate_limit = rate_limit
        self.request_counts = request_counts
        self._use_recorded: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def api_caller(self, headers: _Headers, organisation_id: str, rule: Rule) -> ApiCaller:
        """Returns the caller of a route of the data plane.

        Raises `Unauthenticated`, `KeyExpired`, `OrganisationSuspended`, `QuotaExceeded` and `RateLimited`.
        """
        key_hash = _presented(headers, API_KEY_HEADER)
        async with self._database.look_up(single=True) as connection:
            found = await organisations.find_api_key(connection, key_hash)
        if (
            found is None
            or not hmac.compare_digest(found[0].hash, key_hash)
            or not hmac.compare_digest(found[0].organisation_id.encode(), organisation_id.encode())
        ):
            raise Unauthenticated("the API key is wrong, was revoked, or belongs to another organisation")
        key, organisation = found
        await self._rate_limit.count(key.hash)
        _check_usable(key, organisation)
        await self.request_counts.count(organisation, key.hash)
        self._record_use(key)
        return ApiCaller(key, rule.permission)

    async def actor(self, headers: _Headers, request_id: str) -> Actor:
        """Returns the caller of a route of the control plane.

        Raises `Unauthenticated`, `OrganisationSuspended` and `RateLimited`.
        """
        organisation_id = headers.get(ORGANISATION_HEADER)
        if not organisation_id:
            raise Unauthenticated(f"the header {ORGANISATION_HEADER} with the organisation's id is missing")
        key_hash = _presented(headers, ADMIN_KEY_HEADER)
        async with self._database.look_up(single=True) as connection:
            found = await organisations.find_admin_key(connection, key_hash)
        if (
            found is None
            or not hmac.compare_digest(found[0], key_hash)
            or not hmac.compare_digest(found[1].id.encode(), organisation_id.encode())
        ):
            raise Unauthenticated("the admin key is wrong or belongs to another organisation")
        await self._rate_limit.count(key_hash)
        check_not_suspended(*found)
        return Actor(found[1].id, key_hash, request_id, has_key=True)

    async def operator(self, headers: _Headers, request_id: str) -> Operator:
        """Returns the caller of an operator's route. Raises `Unauthenticated` and `RateLimited`."""
        key_hash = _presented(headers, OPERATOR_KEY_HEADER)
        async with self._database.look_up(single=True) as connection:
            found = await operator_keys.find(connection, key_hash)
        if found is None or not hmac.compare_digest(found, key_hash):
            raise Unauthenticated("the operator key is wrong or was replaced")
        await self._rate_limit.count(key_hash)
        return Operator(key_hash, request_id)

    async def close(self) -> None:
        """Waits until every use of a key is recorded."""
        await asyncio.gather(*self._tasks)
        await self.request_counts.close()

    def _record_use(self, key: ApiKey) -> None:
        # In the background and not for every request: otherwise, every read would wait for the disk.
        moment = time.monotonic()
        if moment - self._use_recorded.get(key.hash, -_USE_RECORDED_EVERY_S) >= _USE_RECORDED_EVERY_S:
            self._use_recorded[key.hash] = moment
            # In a context of its own: the deadline of the request must not apply.
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._write_use(key.hash), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write_use(self, key_hash: str) -> None:
        try:
            async with self._database.write(urgent=True) as connection:
                await organisations.record_use(connection, key_hash)
        except (StorageError, Unavailable):
            self._use_recorded.pop(key_hash, None)
            _log.warning("the last use of an API key could not be recorded")


def _check_usable(key: ApiKey, organisation: Organisation) -> None:
    """Raises `KeyExpired` and `OrganisationSuspended`; only the holder of a genuine key gets these."""
    if key.expires_at is not None and key.expires_at <= now():
        raise KeyExpired(key.expires_at, key.hash)
    check_not_suspended(key.hash, organisation)


def check_not_suspended(key_hash: str, organisation: Organisation) -> None:
    """Raises `OrganisationSuspended`; `key_hash` is the hash of the presented key."""
    if organisation.suspended_at is not None:
        raise OrganisationSuspended(key_hash)


def _denial(key: ApiKey, grant: Grant, needed: Permission) -> str:
    """Explains which grant is too low, and how to change it."""
    if grant.is_default:
        why = f"its default permission is {grant.permission}, and none is set for this knowledge base"
    else:
        why = (
            f"its permission for this knowledge base is set to {grant.permission}, which goes before its default of "
            f"{key.default_permission}"
        )
    return (
        f"the API key is not permitted to {needed.name.lower()} in this knowledge base: {why}; an admin key sets "
        f"{needed:d} with PUT /api/v1/keys/{{hash}}/permissions/{{kb_id}} (xtrace keys grant)"
    )


def _presented(headers: _Headers, header: str) -> str:
    key = headers.get(header)
    if not key:
        raise Unauthenticated(f"the header {header} with the key is missing")
    if not is_well_formed(key):
        raise Unauthenticated(f"the key in {header} is mistyped: its check characters are wrong")
    return hash_key(key)
