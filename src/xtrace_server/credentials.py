"""The files with the server's address and the keys of clients and of the operator, readable only by their owner.

There are two, so that `credentials.json` can be passed on without the operator key.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from xtrace_core.files import write_file
from xtrace_core.secrecy import Secretive

CREDENTIALS_FILE = "credentials.json"
OPERATOR_FILE = "operator.json"


class Credentials(Secretive, Struct):
    """What a client needs to reach the server: the content of `credentials.json`."""

    org_id: str
    admin_key: str
    api_key: str
    api_url: str

    def __repr__(self) -> str:
        return f"Credentials(org_id={self.org_id!r}, admin_key='…', api_key='…', api_url={self.api_url!r})"


class OperatorCredentials(Secretive, Struct):
    """What the operator needs to operate the server over HTTP: the content of `operator.json`."""

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
    """Writes the file atomically, with mode 0600."""
    write_file(path, msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")
