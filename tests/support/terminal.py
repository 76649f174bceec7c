"""The installed command as a person or a script meets it: another process, its output, its status.

Everything that any process printed is kept, so that a fixture can hold it against the secrets of the test.
"""

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from support.forked_command import MOST_TYPED, READ_AT_THE_START, ForkedCommand

COMMAND = str(Path(sys.executable).with_name("xtrace"))
TIMEOUT_S = 60
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\^-~])")
"""An escape sequence of ECMA-48: a control sequence, an operating system command, or a short one."""
_forked: Final = ForkedCommand()


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The standard output of a command that succeeded, as JSON."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """The standard output of a command that succeeded, without the end of its last line."""
        assert self.status == 0, self.err
        return self.out.rstrip("\n")

    def fails(self, sentence: str, status: int = 1) -> None:
        """Asserts that the command failed with one sentence on standard error that holds this one, and nothing else."""
        assert (self.status, self.out) == (status, ""), self
        assert self.err.startswith("xtrace: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert sentence in self.err, self.err


@dataclass
class Terminal:
    """A shell in a folder, with its environment."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def __call__(self, line: str, typed: str = "", **variables: str) -> Result:
        """Runs `xtrace` with the line's words, no terminal attached; `typed` is its standard input.

        `variables` join the environment. It is forked from a process that has made the imports, unless a variable
        matters to them.
        """
        added = {*self.environment, *variables}
        if len(typed) * 4 <= MOST_TYPED and not any(name.startswith(READ_AT_THE_START) for name in added):
            words, environment = shlex.split(line), self._environment(variables)
            return self._result(*_forked.run(words, self.folder, environment, typed, TIMEOUT_S))
        done = subprocess.run(
            [COMMAND, *shlex.split(line)],
            cwd=self.folder,
            env=self._environment(variables),
            input=typed,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return self._result(done.returncode, done.stdout, done.stderr)

    def on_screen(self, line: str, columns: int = 80, **variables: str) -> Result:
        """Runs `xtrace` with its standard output on a terminal of this width; `out` is what the screen got."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {"TERM": "xterm", **self._environment(variables)}
        for name in ("COLUMNS", "NO_COLOR"):
            environment.pop(name, None)
        process = subprocess.Popen(
            [COMMAND, *shlex.split(line)],
            cwd=self.folder,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(slave)
        screen = _read_to_the_end(master)
        _, err = process.communicate(timeout=TIMEOUT_S)
        os.close(master)
        return self._result(process.returncode, screen.replace("\r\n", "\n"), err)

    def into(self, line: str, file: str) -> Result:
        """Runs `xtrace … > file`."""
        with Path(file).open("w") as output:
            done = subprocess.run(
                [COMMAND, *shlex.split(line)],
                cwd=self.folder,
                env=self._environment({}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        return self._result(done.returncode, "", done.stderr)

    def into_closed_pipe(self, line: str) -> Result:
        """Runs `xtrace … | true`: whoever reads has gone before anything is written."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as output:
            return self.into(line, f"/dev/fd/{output.fileno()}")

    def watched(self, line: str, *answers: str, **variables: str) -> Result:
        """Runs `xtrace` at a terminal where somebody types an answer to each question; `err` is the screen.

        Standard output goes elsewhere, as with `xtrace … > file`. An answer is typed once a question waits for it.
        """
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [COMMAND, *shlex.split(line)],
            cwd=self.folder,
            env=self._environment(variables),
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            start_new_session=True,
        )
        os.close(slave)
        screen = ""
        for answer in answers:
            screen += _read_until_quiet(master)
            os.write(master, answer.encode() + b"\n")
        screen += _read_to_the_end(master)
        out, _ = process.communicate(timeout=TIMEOUT_S)
        os.close(master)
        return self._result(process.returncode, out, screen.replace("\r\n", "\n"))

    def converse(self, line: str) -> "Conversation":
        """Starts `xtrace` at a terminal, for input and output."""
        environment = {**self._environment({}), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        process, master = pty.fork()
        if process == 0:
            os.chdir(self.folder)
            os.execve(COMMAND, [COMMAND, *shlex.split(line)], environment)  # noqa: S606
        return Conversation(self, process, master)

    def start(self, line: str, **variables: str) -> "Running":
        """Starts `xtrace` and comes back at once."""
        # A shell starts its background jobs with Ctrl-C ignored; what they start would ignore it, too.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [COMMAND, *shlex.split(line)],
            cwd=self.folder,
            env=self._environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Running(self, process)

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        # Nothing of the developer's own settings; a fixed width, because help is wrapped to it.
        plain = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
        plain["XTRACE_LOCAL_INDEX"] = "off"  # most tests look at a search on the service
        return plain | {"COLUMNS": "80", "NO_COLOR": "1"} | self.environment | variables

    def _result(self, status: int, out: str, err: str) -> Result:
        self.seen += [out, err]
        return Result(status, out, err)


@dataclass
class Running:
    """A command that has not ended yet; the end of the block ends it, whatever happened."""

    terminal: Terminal
    process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def wait_for(self, text: str, *, error: bool = False) -> str:
        """What the command printed up to a line that holds the text, on standard output or error."""
        stream = self.process.stderr if error else self.process.stdout
        assert stream is not None
        lines = ""
        for line in stream:
            self.terminal.seen.append(line)
            lines += line
            if text in line:
                return lines
        raise AssertionError(f"{text!r} never came: {lines}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Result:
        """Sends a signal and waits for the end; gives what was not read before."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> Result:
        """Waits for the end; gives what was not read before."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.terminal._result(self.process.returncode, out, err)


@dataclass
class Conversation:
    """A command at a terminal that a person talks with; the end of the block ends it, whatever happened."""

    terminal: Terminal
    process: int
    master: int
    painted: str = ""
    """The characters that have come and were not expected yet, without the sequences that move and colour them."""
    unread: str = ""
    """A sequence that has not come to its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> None:
        """Waits until the text is painted, after what was expected before, in however many parts."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.painted:
            assert select.select([self.master], [], [], deadline - time.monotonic())[0], f"{text!r}: {self.painted!r}"
            part = os.read(self.master, 4096).decode(errors="replace")
            self.terminal.seen.append(part)
            come, begun, rest = _SEQUENCE.sub("", self.unread + part).partition("\x1b")
            self.painted += come
            self.unread = begun + rest
        self.painted = self.painted.partition(text)[2]

    def end(self) -> int:
        """Waits for the end, and returns the exit status."""
        _read_to_the_end(self.master)
        process, self.process = self.process, 0
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _read_until_quiet(descriptor: int) -> str:
    """What comes until a question stands there: its end, without the end of a line, and then silence."""
    text, deadline = "", time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.2)[0]:
            text += os.read(descriptor, 4096).decode()
        elif text.endswith(" "):
            return text
    raise AssertionError(f"no question came: {text!r}")


def _read_to_the_end(descriptor: int) -> str:
    text = b""
    while True:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # the other side is closed
            return text.decode()
        if not part:
            return text.decode()
        text += part
