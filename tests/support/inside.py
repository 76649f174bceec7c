"""Commands in this process, one after another, as `xtrace shell` carries them out."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from support.terminal import Result, Terminal
from xtrace_cli.shell.session import Session


@dataclass
class Inside:
    """A session, beside the terminal of the same folder, which keeps what was printed."""

    session: Session
    terminal: Terminal

    def __call__(self, line: str, typed: str = "", **variables: str) -> Result:
        """Runs the command; `variables` join the environment."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
            for name, value in variables.items():
                patch.setenv(name, value)
            status = self.session.run(line)
        self.terminal.seen += [out.getvalue(), err.getvalue()]
        return Result(status, out.getvalue(), err.getvalue())
