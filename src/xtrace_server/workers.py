"""A server with several processes: a parent, which owns the data folder and the listening socket, and workers.

The parent only supervises: it restarts workers that die, replaces all of them one by one on SIGHUP, and stops them on
SIGTERM. Workers are forked, so that they share imported modules, and exit when the parent has died. They inherit the
lock of the folder, which is held as long as any of them runs.
"""

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Final, NoReturn

from xtrace_server.app import Common, Counts
from xtrace_server.heartbeats import Heartbeats
from xtrace_server.metrics_board import MetricsBoard, MetricsPlace
from xtrace_server.serving import CannotServe, Server, begin_serving, new_server, prepared
from xtrace_server.settings import Settings

_LOOKS_EVERY_S: Final = 0.1
"""How often a worker checks whether it has started, and whether its parent is alive."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
_STEADY_S: Final = 60.0
"""A worker that has run for this long did not fail at its start."""
_PATIENCE_S: Final = 10.0
"""The extra time beyond its settings that a worker may take to stop."""
_LONGER_TO_START: Final = 4
"""The multiple of `worker_timeout_s` that a worker may take to start serving."""
_BEATS_EVERY_S: Final = 1.0
"""How often the parent checks the heartbeats."""
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD") if hasattr(signal, name)
)

_log = logging.getLogger("xtrace")


def run(settings: Settings) -> None:
    """Serves with `settings.workers` processes until SIGINT or SIGTERM. Raises `CannotServe`."""
    if not hasattr(os, "fork"):
        raise CannotServe(f"workers is {settings.workers}, but this system cannot fork processes: leave it at 1")
    with prepared(settings) as (listeners, url):
        # Report wrong settings once; without traces, because these start a thread, and this process forks.
        new_server(settings.of_worker.model_copy(update={"traces_endpoint": None}))
        begin_serving(url)
        parent = _Parent(settings, listeners)
        try:
            parent.run()
        finally:
            parent.end_all()


class _Worker:
    """The parent's view of a worker."""

    def __init__(self, pid: int, place: int, ready: int) -> None:
        self.pid = pid
        self.place = place
        self.ready: int | None = ready
        """Becomes readable when the worker serves; None from then on."""
        self.began = time.monotonic()
        self.stopped_by: float | None = None
        """When to kill it, if it was told to stop."""
        self.beats = 0
        self.silent_for = 0
        """The number of the parent's checks since its event loop last ran."""


class _Parent:
    """Supervises the workers."""

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._listeners = listeners
        # One more than workers, because a worker is replaced only once its successor serves.
        self._board = MetricsBoard(settings.workers + 1)
        self._heartbeats = Heartbeats(settings.workers + 1)
        self._look_at = 0.0
        """The time of the next check of heartbeats."""
        self._counts = Counts()
        self._workers: list[_Worker] = []
        self._failures = 0
        self._start_at = 0.0
        """When to start a missing worker."""
        self._all_started = False
        self._to_replace: list[_Worker] = []
        self._successor: _Worker | None = None
        self._signals: list[int] = []
        self._stopping = False
        self._has_terminal = _has_terminal()

    def run(self) -> None:
        """Runs until it is told to stop and all workers have stopped. Raises `CannotServe` if none could start."""
        woken, wake = socket.socketpair()
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            with woken, wake:
                woken.setblocking(False)
                wake.setblocking(False)
                signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
                while self._act():
                    ready = [worker.ready for worker in self._workers if worker.ready is not None]
                    readable, _, _ = select.select([woken.fileno(), *ready], [], [], self._pause_s())
                    with suppress(BlockingIOError):
                        woken.recv(4096)
                    self._note_ready(readable)
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)

    def end_all(self) -> None:
        """Kills remaining workers after an error here."""
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _pause_s(self) -> float:
        moment = time.monotonic()
        due = [worker.stopped_by for worker in self._workers if worker.stopped_by is not None]
        due.append(max(self._look_at, moment))
        if self._missing():
            due.append(self._start_at)
        return max(min(due) - moment, 0.0)

    def _missing(self) -> int:
        serving = sum(1 for worker in self._workers if worker.stopped_by is None and worker is not self._successor)
        return 0 if self._stopping else self._settings.workers - serving

    def _act(self) -> bool:
        """Handles signals, deaths, starts and replacements. Returns False when everything has ended."""
        while self._signals:
            self._answer(self._signals.pop(0))
        self._reap()
        if self._missing() and time.monotonic() >= self._start_at:
            for _ in range(self._missing()):
                self._start()
        self._replace()
        self._look_for_life()
        for worker in self._workers:
            if worker.stopped_by is not None and time.monotonic() >= worker.stopped_by:
                _log.error("a worker did not stop in time and was killed")
                worker.stopped_by = time.monotonic() + _PATIENCE_S
                os.kill(worker.pid, signal.SIGKILL)
        return not self._stopping or bool(self._workers)

    def _look_for_life(self) -> None:
        """Kills workers that hang; they are replaced like those that die."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _BEATS_EVERY_S
        for worker in self._workers:
            before, worker.beats = worker.beats, self._heartbeats.number(worker.place)
            stays = worker.stopped_by is None
            worker.silent_for = worker.silent_for + 1 if stays and worker.beats == before else 0
            # No heartbeat is expected before it serves.
            allowed_s = self._settings.worker_timeout_s * (1 if worker.ready is None else _LONGER_TO_START)
            if worker.silent_for * _BEATS_EVERY_S > allowed_s:
                _log.error("a worker gave no sign of life for %g s, and is killed", allowed_s)
                worker.silent_for = 0
                os.kill(worker.pid, signal.SIGKILL)

    def _answer(self, number: int) -> None:
        if number == signal.SIGHUP and self._has_terminal and not _has_terminal():
            number = signal.SIGTERM  # the terminal is gone, which would also end any other program
        if number in (signal.SIGTERM, signal.SIGINT):
            # A second Ctrl-C skips the delay, as it does without workers.
            told = signal.SIGINT if self._stopping and number == signal.SIGINT else signal.SIGTERM
            if not self._stopping or told == signal.SIGINT:
                for worker in self._workers:
                    self._tell(worker, told, self._settings.drain_s)
            self._stopping = True
        elif number == signal.SIGHUP and not (self._stopping or self._to_replace or self._successor):
            _log.warning("replacing all workers, one after another")
            self._to_replace = [worker for worker in self._workers if worker.stopped_by is None]

    def _tell(self, worker: _Worker, number: signal.Signals, more_s: float = 0.0) -> None:
        if worker.stopped_by is None:
            worker.stopped_by = time.monotonic() + more_s + self._settings.shutdown_timeout_s + _PATIENCE_S
        os.kill(worker.pid, number)

    def _start(self) -> _Worker:
        place = min({*range(1, self._settings.workers + 2)} - {worker.place for worker in self._workers})
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            _work(
                self._settings.of_worker,
                self._listeners,
                Common(MetricsPlace(self._board, place), self._counts, partial(self._heartbeats.beat, place)),
                writing,
            )
        os.close(writing)
        worker = _Worker(pid, place, reading)
        self._workers.append(worker)
        return worker

    def _note_ready(self, readable: Sequence[int]) -> None:
        for worker in self._workers:
            if worker.ready in readable and worker.ready is not None:
                serves = os.read(worker.ready, 1)
                os.close(worker.ready)
                worker.ready = None
                if serves and worker is self._successor:
                    self._successor = None  # it is one like the others now
                    self._tell(self._to_replace.pop(0), signal.SIGUSR1)
        if not self._all_started and len(self._workers) == self._settings.workers:
            self._all_started = all(worker.ready is None for worker in self._workers)

    def _reap(self) -> None:
        for worker in list(self._workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: _Worker, exit_code: int) -> None:
        self._workers.remove(worker)
        if worker.ready is not None:
            os.close(worker.ready)
        self._board.retire(worker.place)
        if worker.stopped_by is not None or self._stopping:
            return
        if not self._all_started:
            raise CannotServe("a worker could not start; its log says why")
        if worker is self._successor:
            _log.error("a new worker could not start (%s): the old ones keep running", _ending(exit_code))
            self._successor, self._to_replace = None, []
            return
        if worker in self._to_replace:
            self._to_replace.remove(worker)
            if self._successor is not None and not self._to_replace:
                self._successor = None  # which has already replaced it
                return
        self._failures = 0 if time.monotonic() - worker.began >= _STEADY_S else self._failures + 1
        pause = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        self._start_at = time.monotonic() + pause
        _log.error("a worker exited (%s): starting another one in %.1f s", _ending(exit_code), pause)

    def _replace(self) -> None:
        """Starts the next successor once the previous one has replaced its worker."""
        leaving = any(worker.stopped_by is not None for worker in self._workers)
        if self._to_replace and self._successor is None and not leaving and not self._stopping:
            self._successor = self._start()


def _work(settings: Settings, listeners: Sequence[socket.socket], common: Common, ready: int) -> NoReturn:
    """Runs a worker, and never returns to the parent's code."""
    exit_code = 1
    try:
        signal.set_wakeup_fd(-1)
        # Only the parent handles Ctrl-C at a terminal, and tells the workers.
        os.setpgid(0, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        server = new_server(settings, common)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: server.leave())
        threading.Thread(target=_watch, args=(server, os.getppid(), ready), name="xtrace-watch", daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.run(sockets=list(listeners))
        exit_code = 0
    except CannotServe as error:
        _log.error("%s", error)
    except SystemExit:
        pass  # uvicorn raises this if the application did not start; its log says why
    except BaseException:
        _log.exception("a worker failed")
    finally:
        logging.shutdown()
        os._exit(exit_code)


def _watch(server: Server, parent: int, ready: int) -> None:
    """Tells the parent when the server has started, and stops it when the parent has died."""
    told = False
    while os.getppid() == parent:
        if server.started and not told:
            told = True
            os.write(ready, b"1")
            os.close(ready)
        time.sleep(_LOOKS_EVERY_S)
    _log.error("the parent of this worker has exited, so it stops")
    server.leave()
    time.sleep(server.config.timeout_graceful_shutdown or 0)
    time.sleep(_PATIENCE_S)
    os._exit(1)


def _ending(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit status {exit_code}"


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
