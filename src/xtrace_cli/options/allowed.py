"""Remembers what the user has allowed a folder's files to set, in `allowed.json` beside the user's profiles.

Each permission names the folder, the setting with its value, and what it is used with. If the folder's file changes the
value, the user is asked again.
"""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from xtrace_cli.options.settings import Setting, user_profiles
from xtrace_cli.options.small_files import read_small_file
from xtrace_core.files import write_file
from xtrace_sdk.errors import InaccessibleFile

_FILE: Final = "allowed.json"


class _Permission(msgspec.Struct, frozen=True):
    folder: str
    setting: str
    value: str
    used_with: str


def is_allowed(setting: Setting, used_with: str) -> bool:
    """Whether the user has allowed the working folder's setting to be used with that key or for that purpose."""
    return _permission(setting, used_with) in _all()


def allow(setting: Setting, used_with: str) -> None:
    """Remembers that the user allows it. Raises `InaccessibleFile`."""
    permission = _permission(setting, used_with)
    others = [one for one in _all() if one != permission]
    file = user_profiles().with_name(_FILE)
    try:
        write_file(file, msgspec.json.format(msgspec.json.encode([*others, permission]), indent=2) + b"\n")
    except OSError as error:
        raise InaccessibleFile(f"your permissions cannot be saved to {file}: {error.strerror}") from None


def _permission(setting: Setting, used_with: str) -> _Permission:
    value = setting.value
    if setting.name == "ca_file" and setting.path.is_file():
        # A different certificate under the same name is a different authority.
        value += f" {hashlib.sha256(read_small_file(setting.path, 'certificates')).hexdigest()}"
    return _Permission(str(Path.cwd().resolve()), setting.name, value, used_with)


def _all() -> list[_Permission]:
    file = user_profiles().with_name(_FILE)
    if not file.exists():
        return []
    try:
        return msgspec.json.decode(read_small_file(file, "permissions"), type=list[_Permission])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InaccessibleFile(f"{file} is damaged: delete it, and answer the questions again") from None
