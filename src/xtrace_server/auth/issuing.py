"""Creates random API keys, and stores only their hashes."""

from xtrace_core.permissions import Permission
from xtrace_server.auth.keys import first_n, hash_key, new_key
from xtrace_server.storage import organisations
from xtrace_server.storage.database import Connection, now
from xtrace_server.storage.organisations import ApiKey


async def new_api_key(
    connection: Connection,
    organisation_id: str,
    name: str,
    description: str,
    default_permission: Permission,
    expires_at: str | None = None,
) -> tuple[ApiKey, str]:
    """Creates an API key whose first characters, ignoring case, are unique in the organisation.

    Returns the stored record and the key itself. Without `expires_at`, it does not expire.
    """
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
        expires_at=expires_at,
    )
    await organisations.add_api_key(connection, key)
    return key, secret
