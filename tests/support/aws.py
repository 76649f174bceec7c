"""AWS KMS for tests: moto's server over real HTTP, and a server that answers with one error."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

ALIAS = "alias/xtrace"
CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@dataclass(frozen=True)
class KMS:
    """A running KMS server with one symmetric key, `ALIAS`."""

    url: str
    key_id: str

    def client(self) -> Any:
        return client_of(self.url)


def client_of(url: str, **settings: Any) -> Any:
    """A client of the KMS server at that address; no request is repeated."""
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=30, read_timeout=30)
    session = boto3.Session()  # the default one remembers what it found in the environment of another test
    return session.client("kms", "eu-central-1", endpoint_url=url, config=once, **{**CREDENTIALS, **settings})


@contextmanager
def running_kms() -> Iterator[KMS]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        client = client_of(f"http://{host}:{port}")
        key_id = client.create_key(Description="for tests")["KeyMetadata"]["KeyId"]
        client.create_alias(AliasName=ALIAS, TargetKeyId=key_id)
        yield KMS(f"http://{host}:{port}", key_id)
        client.delete_alias(AliasName=ALIAS)  # what moto holds is the process's, not the server's
    finally:
        server.stop()


@contextmanager
def failing_kms(code: str, status: int = 400) -> Iterator[Any]:
    """A client of a server that answers every request with this error, as AWS writes it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"__type": code, "message": "what AWS says"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield client_of(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
