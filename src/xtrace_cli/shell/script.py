"""A shell that reads lines from a file or a pipe."""

from collections.abc import Iterable

from xtrace_cli.output import note
from xtrace_cli.shell.session import Session, is_complete, joined


def carry_out(session: Session, lines: Iterable[str]) -> int:
    """Runs all commands, even after a failure. Returns the exit status of the last failed one, else 0."""
    status, begun = 0, list[str]()
    for line in lines:
        begun.append(line.rstrip("\r\n"))
        if not is_complete("\n".join(begun)):
            continue
        status = session.run(joined(begun)) or status
        begun = []
        if session.is_over:
            return status
    if begun:
        note("the last command is not complete: a quote is not closed, or the line after a backslash is missing")
        return 2
    return status
