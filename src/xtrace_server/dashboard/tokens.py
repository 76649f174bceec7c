"""The token in every form. It proves that the form came from this server, for this session.

It consists of a nonce and the nonce's HMAC under the session cookie, which only the browser and its pages know. The
nonce identifies the form, so that a form that creates something counts once.
"""

import hashlib
import hmac
import secrets
from typing import Final

FIELD: Final = "token"
_LABEL: Final = b"xtrace/dashboard/form/1 "
_NONCE_CHARACTERS: Final = 22


def new_token(secret: str) -> str:
    """Returns the token of a new form for the session with this cookie value."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_mac(secret, nonce)}"


def nonce_of(secret: str, token: str) -> str | None:
    """Returns the nonce of a token if it was made for this session, otherwise None."""
    nonce, _, mac = token.partition(".")
    right = hmac.compare_digest(mac.encode("utf-8", "replace"), _mac(secret, nonce).encode())
    return nonce if right and len(nonce) == _NONCE_CHARACTERS else None


def _mac(secret: str, nonce: str) -> str:
    message = _LABEL + nonce.encode("utf-8", "replace")
    return hmac.new(secret.encode("utf-8", "replace"), message, hashlib.sha256).hexdigest()
