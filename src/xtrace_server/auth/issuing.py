"""Makes keys: random ones, of which only the hash is stored."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.permissions import Permission
from xtrace_server.auth.keys import first_n, hash_key, new_key
from xtrace_server.storage import audit, organisations
from xtrace_server.storage.audit import Event
from xtrace_server.storage.database import now
from xtrace_server.storage.organisations import ApiKey, Organisation


@dataclass(frozen=True, slots=True, repr=False)
class NewOrganisation:
    """A new organisation with its first keys, which are nowhere else."""

    organisation: Organisation
    admin_key: str
    api_key: str


async def new_organisation(connection: AsyncConnection, name: str) -> NewOrganisation:
    """A new organisation with an admin key, and an API key that may do everything in every knowledge base."""
    admin_key = new_key()
    created = await organisations.create(connection, name, hash_key(admin_key))
    key, api_key = await new_api_key(connection, created.id, "default", "made with the organisation", Permission.DELETE)
    await audit.record(
        connection,
        created.id,
        [
            Event(action="organisation.create", actor="operator", subject=created.id),
            Event(action="api_key.create", actor="operator", subject=key.hash, detail="permission 7 everywhere"),
        ],
    )
    return NewOrganisation(created, admin_key, api_key)


async def new_api_key(
    connection: AsyncConnection, organisation_id: str, name: str, description: str, default_permission: Permission
) -> tuple[ApiKey, str]:
    """A new API key as stored, and the key itself. Its first characters are like no other's, ignoring case."""
    secret = new_key()
    while await organisations.first_n_is_taken(connection, organisation_id, first_n(secret)):
        secret = new_key()
    key = ApiKey(
        hash=hash_key(secret),
        organisation_id=organisation_id,
        first_n=first_n(secret),
        name=name,
        description=description,
        default_permission=default_permission,
        created_at=now(),
        last_used_at=None,
    )
    await organisations.add_api_key(connection, key)
    return key, secret
