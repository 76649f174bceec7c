"""Sockets to listen on."""

import socket
from ipaddress import ip_address


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; port 0 is a free one. Raises `OSError` with the system's reason."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # The library adds the address to its message.
        raise OSError(error.errno, (error.strerror or "").partition(" (while")[0]) from None


def is_loopback(host: str) -> bool:
    """Returns whether only this host can reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
