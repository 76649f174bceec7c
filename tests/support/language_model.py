"""A real local server that speaks OpenAI's chat completions, streamed or not, and does what a test plans.

Without a plan it answers by its rules: it quotes the first source of the prompt and cites it. With a plan it sends any
status and body, stops in the middle, or waits between two parts until the test lets it go on.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 30


@dataclass
class Plan:
    """One answer: of `pieces`, an event of `threading` stands for waiting until it is set."""

    status: int = 200
    pieces: Sequence[bytes | threading.Event] = ()
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def event(text: str | None, finish_reason: str | None = None) -> bytes:
    """One event of a stream."""
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def streamed(*texts: str) -> Plan:
    """A whole stream with these parts."""
    return Plan(pieces=[*map(event, texts), event(None, "stop"), DONE], content_type="text/event-stream")


def stream_of(*pieces: bytes | threading.Event) -> Plan:
    """A stream of these bytes, which ends where they do."""
    return Plan(pieces=pieces, content_type="text/event-stream")


def completion(text: str | None, finish_reason: str = "stop") -> Plan:
    """A whole answer."""
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}
    return Plan(pieces=[json.dumps(body).encode()])


def refusal(status: int, message: str, **headers: str) -> Plan:
    """An error as OpenAI says it."""
    return Plan(status, [json.dumps({"error": {"message": message, "type": "error"}}).encode()], headers=headers)


class LanguageModel(ThreadingHTTPServer):
    """The server; `plans` are carried out in their order, one for each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plans: list[Plan] = []
        self.rules: Callable[[dict[str, Any]], Plan] = _answer
        """What it answers to the body of a request without a plan."""
        self.requests: list[dict[str, Any]] = []
        """The bodies of all requests so far, with `path` and `headers`."""
        self.hung_up = threading.Event()
        """Set when a client has gone away before its answer was complete."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: LanguageModel
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append({"path": self.path, "headers": headers, **body})
        plan = self.server.plans.pop(0) if self.server.plans else self.server.rules(body)
        self.send_response(plan.status)
        for name, value in {"content-type": plan.content_type, "connection": "close", **plan.headers}.items():
            self.send_header(name, value)
        if "content-length" not in plan.headers and plan.content_type == "application/json":
            self.send_header("content-length", str(sum(len(one) for one in plan.pieces if isinstance(one, bytes))))
        self.end_headers()
        self.close_connection = True
        try:
            for piece in plan.pieces:
                if isinstance(piece, threading.Event):
                    assert piece.wait(WAIT_S)
                else:
                    self.wfile.write(piece)
                    self.wfile.flush()
        except ConnectionError:
            self.server.hung_up.set()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
        pass


def _answer(body: dict[str, Any]) -> Plan:
    prompt = body["messages"][-1]["content"]
    first = prompt.partition("[1] ")[2].partition("\n\n")[0].splitlines()
    quoted = first[-1] if first else "nothing"
    return streamed("The sources say: ", quoted, " [1]") if body["stream"] else completion(f"It says: {quoted} [1]")


@contextmanager
def language_model() -> Iterator[LanguageModel]:
    """A running server."""
    server = LanguageModel()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
