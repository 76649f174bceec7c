"""`xtrace shell`: the command; its parts are in `xtrace_cli.shell`."""

import sys


def shell() -> None:
    """Type commands without the prefix; the connection, the context and the model stay open between them.

    On a terminal there are completion and a history, which is kept in a file that only you can read. When not
    interactive, standard input is read line by line, and the exit status is that of the last command that failed.
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
