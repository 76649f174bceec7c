"""Derives values from the keys of other clients (docs/formats.md, "Contexts of existing clients")."""

import hashlib
import json

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_sdk.x_vec.compat.paillier import ExistingClient
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.hedging import Hedge


def existing_id(type_: str, pk: str, config: str, client: ExistingClient) -> str:
    """Returns the id under which the other client stores chunks; its file does not contain the id."""
    document = {"sk": client.secret_key, "pk": pk, "type": type_, "config": config}
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def metadata_key(content_key: bytes) -> bytes:
    """Returns the key for names, which the other client does not have."""
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"xtrace/existing-client/metadata/1")
    return derivation.derive(content_key)


def hedge_of(content_key: bytes) -> Hedge:
    """Returns the source of randomness, for which the other client does not have a key either."""
    return Hedge.derived(content_key, b"xtrace/existing-client/hedging/1")
