"""The addresses, keys and error messages of model APIs."""

import os
import re
from typing import Final

import msgspec

from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.http.transport import base_url, header_value

OPENAI_URL: Final = "https://api.openai.com/v1"
_LONGEST_MESSAGE: Final = 500
# OpenAI's own message about a wrong key shows its beginning and end.
_KEY_LIKE: Final = re.compile(r"\b(sk|key)-[\w*.-]{6,}")


def ollama_address(given: str | None) -> str:
    """Returns the URL of Ollama: as given, else from `OLLAMA_HOST`, else this machine's. Raises `InvalidArgument`."""
    address = (given or os.environ.get("OLLAMA_HOST") or "127.0.0.1").strip()
    if "://" not in address:
        # Ollama's own reading of OLLAMA_HOST: host or port may be missing, and it may be a server's listening address.
        host, port = _host_and_port(address)
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
        address = f"http://{host}:{port or 11434}"
    return base_url(address, "base_url of Ollama (or OLLAMA_HOST)")


def openai_address(given: str | None) -> str:
    """Returns the URL of OpenAI's API: as given, else from `OPENAI_BASE_URL`, else its own. Raises
    `InvalidArgument`."""
    return base_url(given or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL, "base_url of OpenAI (or OPENAI_BASE_URL)")


def openai_key(given: str, address: str | None) -> str:
    """Returns the key of OpenAI's API: as given, else from the environment; empty if the address needs none.

    Raises `InvalidArgument` if OpenAI itself would be called without a key.
    """
    key = header_value(
        given or os.environ.get("OPENAI_API_KEY") or os.environ.get("INFERENCE_API_KEY") or "", "api_key"
    )
    if not key and not address and not os.environ.get("OPENAI_BASE_URL"):
        raise InvalidArgument("OpenAI needs a key: pass api_key, or set OPENAI_API_KEY")
    return key


def reason_of(body: bytes, key: str) -> str:
    """Returns an API's error message on one line, without the key.

    It is the text in Ollama's `{"error": text}` or OpenAI's `{"error": {"message": text}}`.
    """
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        answer = None
    said = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(said, dict):
        said = said.get("message")
    if not isinstance(said, str):
        return "it did not say why"
    said = "".join([c if c.isprintable() else " " for c in said]).strip()
    if key:
        said = said.replace(key, "…")
    return _KEY_LIKE.sub("…", said[:_LONGEST_MESSAGE]) or "it did not say why"


def _host_and_port(address: str) -> tuple[str, str]:
    """Splits `host:port` or `[IPv6 address]:port`, either of which may lack a part; keeps the brackets of IPv6."""
    if address.startswith("["):
        host, _, port = address.partition("]")
        return f"{host}]", port.removeprefix(":")
    if address.count(":") > 1:
        return f"[{address}]", ""
    host, _, port = address.partition(":")
    return host, port
