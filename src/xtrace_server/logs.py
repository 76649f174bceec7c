"""Log lines: JSON for programs, text for people. They say what was requested and the outcome, never the contents.

This is the standard library's logging with one formatter, because uvicorn, SQLAlchemy and Alembic use it too; another
library would need an adapter for each. Pass fields besides the message as `extra={"fields": {…}}`.

An exception is logged as its type and its lines of code, without its message: messages of other libraries' exceptions
may quote data.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(form: Literal["auto", "json", "text"], level: str) -> None:
    """Sends all log lines of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for chatty in ("uvicorn", "alembic", "asyncio"):
        # Starting, stopping, migrating: the server's own lines say what an operator needs to know.
        logging.getLogger(chatty).setLevel(max(logging.WARNING, _LEVELS[level]))


def silence_what_quotes() -> None:
    """Prevents libraries from logging what clients sent, at any level."""
    # At debug level, it logs every statement with its values.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    # It logs every path with its parameters; the server's own line has the route.
    logging.getLogger("uvicorn.access").disabled = True


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `message`, then the fields, then `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), **_fields(record)}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = outline(record.exc_info[1])
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """One line for a person: time, level, message, fields; then the exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        # On one line, and without control characters.
        message = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in record.getMessage() + fields)
        line = f"{_time(record)} {record.levelname.lower()} {message}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + "\n".join(f"    {step}" for step in outline(record.exc_info[1]))
        return line


def outline(error: BaseException) -> list[str]:
    """Returns the exception's type and traceback, without its message, followed by its causes."""
    steps: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.extract_tb(seen.__traceback__)
        steps.append(f"{type(seen).__module__}.{type(seen).__qualname__}")
        steps += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return steps


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
