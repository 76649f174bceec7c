"""Secrets that a person types. They never come from the command line, which others can read."""

import getpass
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.settings import current_settings
from xtrace_cli.output import is_watched
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument


@dataclass(frozen=True)
class TypedSecret:
    """The sources of a secret: a file, else an environment variable, else a setting, else the terminal."""

    name: str
    """What it is, such as `passphrase`."""
    variable: str
    option: str
    """The option that names the file."""
    setting: str = ""
    """The setting that may also contain it. It is not used for a new secret, because a file that someone else wrote
    would choose it."""

    def get(self, file: Path | None, prompt: str) -> str:
        """Returns the secret.

        Raises `InaccessibleFile`, `InvalidArgument`, and `WrongUse` if it is missing when not interactive.
        """
        return self.given(file) or self._ask(prompt)

    def given(self, file: Path | None) -> str | None:
        """Returns the secret, or None if it would have to be typed; raises what `get` raises."""
        if file is None and self.setting and not os.environ.get(self.variable):
            return current_settings().text(self.setting)
        return self._given(file)

    def get_new(self, file: Path | None, prompt: str) -> str:
        """Like `get`, for a new secret: the terminal asks for it twice."""
        return self._given(file) or self._ask_twice(prompt)

    def read(self, file: Path) -> str:
        """Returns the text of the file without its final newline. Raises `InaccessibleFile` and `InvalidArgument`."""
        try:
            text = file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise InaccessibleFile(f"the {self.name} cannot be read from {file}: {error.strerror}") from None
        except UnicodeDecodeError:  # its attributes hold the content
            raise InvalidArgument(f"the {self.name} in {file} is not valid UTF-8") from None
        if not text:
            raise InvalidArgument(f"the {self.name} in {file} is empty")
        return text

    def _given(self, file: Path | None) -> str | None:
        return self.read(file) if file is not None else os.environ.get(self.variable) or None

    def _ask_twice(self, prompt: str) -> str:
        first = self._ask(prompt)
        if self._ask("Confirm passphrase: ") != first:
            raise InvalidArgument("the two passphrases differ")
        return first

    def _ask(self, prompt: str) -> str:
        if not is_watched():
            raise WrongUse(f"a {self.name} is needed: give {self.option}, or set {self.variable}")
        with warnings.catch_warnings():
            # Do not let a secret be typed where the terminal cannot stop echoing.
            warnings.simplefilter("error", getpass.GetPassWarning)
            try:
                text = getpass.getpass(prompt, stream=sys.stderr)
            except (EOFError, getpass.GetPassWarning):
                text = ""
        if not text:
            raise InvalidArgument(f"no {self.name} was given")
        return text
