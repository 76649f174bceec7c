"""The files in which clients and the operator find the server and their keys, readable by their owner only.

They are two, so that anyone who gets `credentials.json` does not get the operator key with it.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from xtrace_core.files import write_file
from xtrace_core.secrecy import Secretive

CREDENTIALS_FILE = "credentials.json"
OPERATOR_FILE = "operator.json"


class Credentials(Secretive, Struct):
    """What a client needs to reach the server, as `credentials.json` holds it."""

    org_id: str
    admin_key: str
    api_key: str
    api_url: str

    def __repr__(self) -> str:
        return f"Credentials(org_id={self.org_id!r}, admin_key='…', api_key='…', api_url={self.api_url!r})"


class OperatorCredentials(Secretive, Struct):
    """What the operator needs to operate the server over HTTP, as `operator.json` holds it."""

    operator_key: str
    api_url: str

    def __repr__(self) -> str:
        return f"OperatorCredentials(operator_key='…', api_url={self.api_url!r})"


def read_credentials(path: Path) -> Credentials:
    """Returns the credentials in a file. Raises `OSError` and `msgspec.DecodeError`."""
    return msgspec.json.decode(path.read_bytes(), type=Credentials)


def read_operator_credentials(path: Path) -> OperatorCredentials:
    """Returns the operator's credentials in a file. Raises `OSError` and `msgspec.DecodeError`."""
    return msgspec.json.decode(path.read_bytes(), type=OperatorCredentials)


def write_credentials(path: Path, credentials: Credentials | OperatorCredentials) -> None:
    """Writes the file with mode 0600, whole or not at all."""
    write_file(path, msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")
