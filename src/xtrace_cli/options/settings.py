"""The settings of commands that use a service, and the source of each.

Each setting comes from the first of these sources that has it:

1. the command's flag;
2. the environment;
3. `.env` in the working folder;
4. the profile in `xtrace.toml` in the working folder;
5. the profile in `xtrace.toml` in the user's configuration folder.

The files of the working folder may be someone else's, for example in a cloned repository. So each setting knows its
source, and `trust.py` rejects combinations in which such a file could obtain the user's keys.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import typer

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.small_files import nearest, read_dotenv, read_profiles
from xtrace_core.secrecy import Secretive

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "api_url": ("XTRACE_API_URL",),
    "admin_api_url": ("XTRACE_ADMIN_API_URL",),
    "org_id": ("XTRACE_ORG_ID",),
    "api_key": ("XTRACE_API_KEY",),
    "admin_key": ("XTRACE_ADMIN_KEY",),
    "credentials": ("XTRACE_CREDENTIALS",),
    "ca_file": ("XTRACE_CA_FILE",),
    "local_server": ("XTRACE_LOCAL_SERVER",),
    "context": ("XTRACE_CONTEXT", "XTRACE_EXECUTION_CONTEXT_PATH"),
    "context_id": ("XTRACE_CONTEXT_ID",),
    "passphrase": ("XTRACE_PASSPHRASE", "XTRACE_PASS_PHRASE"),
    "key_file": ("XTRACE_KEY_FILE",),
    "kms_key": ("XTRACE_KMS_KEY",),
    "embedding_model_path": ("XTRACE_EMBEDDING_MODEL_PATH",),
    "kb": ("XTRACE_KB",),
    "local_index": ("XTRACE_LOCAL_INDEX",),
    "llm_provider": ("XTRACE_LLM_PROVIDER",),
    "llm_model": ("XTRACE_LLM_MODEL",),
    "llm_base_url": ("XTRACE_LLM_BASE_URL",),
}
"""Each setting by its name in a profile, with its variables in the environment and `.env`, in order of precedence."""
DOTENV: Final = ".env"
PROFILES: Final = "xtrace.toml"
DEFAULT_PROFILE: Final = "default"
_PROFILE_VARIABLE: Final = "XTRACE_PROFILE"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a setting comes from."""

    label: str
    """Its name in messages: `.env`, `the environment variable XTRACE_API_KEY`."""
    folder: Path
    """The folder to which relative paths in the setting are relative."""
    is_of_folder: bool = False
    """Whether it is a file of the working folder, which may be someone else's."""


@dataclass(frozen=True, slots=True, repr=False)
class Setting(Secretive):
    """A value, possibly secret, and its source."""

    name: str
    value: str
    source: Source

    @property
    def path(self) -> Path:
        """Returns the value as a path; a relative one is relative to the folder of its source file."""
        return self.source.folder / Path(self.value).expanduser()


@dataclass(frozen=True, slots=True, repr=False)
class _Layer(Secretive):
    """The settings of one source."""

    found: Mapping[str, Setting] = field(default_factory=dict)


class Settings(Secretive):
    """The settings in the environment and the files; commands handle their flags themselves."""

    __slots__ = ("_files", "environment", "profile")

    def __init__(self, profile: str | None = None) -> None:
        """Reads the files of the working folder and of the user.

        Raises `InaccessibleFile` and `InvalidArgument` for files that cannot be used, and `WrongUse` for an unknown
        profile.
        """
        here = Path.cwd()
        dotenv = read_dotenv(here / DOTENV)
        self.environment = _Layer(dict(_variables(os.environ, None, here)))
        self.profile = profile or os.environ.get(_PROFILE_VARIABLE) or dotenv.get(_PROFILE_VARIABLE) or ""
        self._files = [
            _Layer(dict(_variables(dotenv, Source(DOTENV, here, is_of_folder=True), here))),
            *_profile_layers(here, self.profile),
        ]

    def get(self, name: str) -> Setting | None:
        """Returns the setting of this name (a key of `VARIABLES`) from the first source that has it, or None."""
        return next((layer.found[name] for layer in (self.environment, *self._files) if name in layer.found), None)

    def text(self, name: str) -> str | None:
        """Returns the value of the setting, or None."""
        setting = self.get(name)
        return None if setting is None else setting.value

    def path(self, name: str) -> Path | None:
        """Returns the value of the setting as a path, or None."""
        setting = self.get(name)
        return None if setting is None else setting.path

    def in_environment(self, name: str) -> Setting | None:
        """Returns the setting only if the environment has it: for what no file may decide."""
        return self.environment.found.get(name)

    def in_files(self) -> Iterator[Mapping[str, Setting]]:
        """Returns the settings of each file, nearest first."""
        for layer in self._files:
            yield layer.found


_chosen_profile: str | None = None


def choose_profile(name: str | None) -> None:
    """Uses this profile for the rest of the process: the option `--profile`."""
    global _chosen_profile
    _chosen_profile = name


def chosen_profile() -> str | None:
    """Returns the profile chosen with `--profile`."""
    return _chosen_profile


def current_settings() -> Settings:
    """Returns the current settings of this process; raises what `Settings` raises."""
    return Settings(_chosen_profile)


def user_profiles() -> Path:
    """Returns the path of `xtrace.toml` in the user's configuration folder; it need not exist."""
    folder = Path(typer.get_app_dir("xtrace"))
    if not folder.is_absolute():  # an empty or relative XDG_CONFIG_HOME would make the working folder the user's
        folder = Path.home() / ".config" / "xtrace"
    return folder / PROFILES


def _variables(variables: Mapping[str, str], source: Source | None, here: Path) -> Iterator[tuple[str, Setting]]:
    for name, candidates in VARIABLES.items():
        for variable in candidates:
            if value := variables.get(variable):
                yield name, Setting(name, value, source or Source(f"the environment variable {variable}", here))
                break


def _profile_layers(here: Path, name: str) -> Iterator[_Layer]:
    """Returns the chosen profile from both files, the folder's first. Raises `WrongUse` if a named profile is
    missing."""
    known = frozenset(VARIABLES)
    files = [(read_profiles(here / PROFILES, known), True), (read_profiles(user_profiles(), known), False)]
    names = [one for file, _ in files for one in file.profiles]
    if name and name not in names:
        raise WrongUse(
            f"the profile {name} does not exist in {PROFILES} of this folder or in {user_profiles()}"
            f"{nearest(name, names)}"
        )
    for file, is_of_folder in files:
        source = Source(f"the profile {name or DEFAULT_PROFILE} in {file.path}", file.path.parent, is_of_folder)
        profile = file.profiles.get(name or DEFAULT_PROFILE, {})
        yield _Layer({one: Setting(one, value, source) for one, value in profile.items()})
