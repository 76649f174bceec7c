"""The entry point of the command `xtrace`. Every installation has it, even without the packages for commands."""

import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Final, NoReturn

_DISTRIBUTION: Final = "xtracedb"
_REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+).*;\s*.*extra == ['\"](?P<extra>[\w-]+)['\"]")
_OTHER_NAMES: Final = {
    "prompt_toolkit": "prompt-toolkit",
    "pydantic": "pydantic-settings",
    "dotenv": "python-dotenv",
    "markdown_it": "markdown-it-py",
}
"""Modules whose distribution has a different name."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line, by default the process's own, and exits.

    Names the extra to install if a package of it is missing.
    """
    try:
        from xtrace_cli.main import main as run

        run(arguments)
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        sys.stderr.write(
            f"xtrace: this needs the package {error.name}, which is not installed: "
            f"pip install '{_DISTRIBUTION}[{extra}]'\n"
        )
        sys.exit(1)


def main_of_mcp() -> NoReturn:
    """The command `xtrace-mcp`: `xtrace mcp` under a single name for hosts to start."""
    main(["mcp", *sys.argv[1:]])


def extra_of(module: str) -> str | None:
    """Returns the extra that installs the module (`server` or `cli` if several do), or None."""
    top = module.partition(".")[0]
    wanted = _normal(_OTHER_NAMES.get(top, top))
    try:
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return None
    matches = filter(None, map(_REQUIREMENT.match, requirements))
    extras = {match["extra"] for match in matches if _normal(match["name"]) == wanted}
    return min(extras, key=lambda extra: (extra == "all", extra != "cli", extra != "server", extra), default=None)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
