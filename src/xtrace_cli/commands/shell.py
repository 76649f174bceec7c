"""`xtrace shell`: the command; its parts are in `xtrace_cli.shell`."""

import sys


def shell() -> None:
    """Run commands without typing `xtrace`; the connection, the context and the model stay open between them.

    A terminal has completion and a history, which is stored in a file that only you can read. When not interactive,
    commands are read from standard input, one per line, and the exit status is that of the last command that failed.
    """
    from xtrace_cli.options.settings import chosen_profile
    from xtrace_cli.shell.session import Session

    with Session(chosen_profile()) as session:
        if sys.stdin.isatty() and sys.stdout.isatty():
            from xtrace_cli.shell.terminal import converse

            status = converse(session)
        else:
            from xtrace_cli.shell.script import carry_out

            status = carry_out(session, sys.stdin)
    sys.exit(status)
