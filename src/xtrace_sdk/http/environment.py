"""Reads the network settings of the environment: proxies, and the certificate authorities to trust.

The variables are the usual ones: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` in lower or upper case,
`SSL_CERT_FILE` and `SSL_CERT_DIR`. They are read when a connection is first needed. Connections to this machine never
use a proxy: it would get the API keys, and could not reach the server.
"""

import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from xtrace_sdk.errors import InvalidArgument

_AUTHORITIES: Final = (("SSL_CERT_FILE", Path.is_file), ("SSL_CERT_DIR", Path.is_dir))


@dataclass(frozen=True, slots=True)
class UsedProxy:
    """A proxy, and the variable that names it."""

    url: str = field(repr=False)
    """The URL, which may contain a password."""
    variable: str

    def transport(self, context: ssl.SSLContext, limits: httpx2.Limits) -> httpx2.AsyncHTTPTransport:
        """Returns connections through the proxy. Raises `InvalidArgument`, which names the variable, if it is not
        usable."""
        try:
            url = httpx2.URL(self.url)
            if not urlsplit(self.url).hostname:  # stricter than httpx2.URL
                raise ValueError
            proxy = httpx2.Proxy(url, ssl_context=_authorities() if url.scheme == "https" else None)
            return httpx2.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy, trust_env=False)
        except ImportError:
            raise InvalidArgument(
                f"{self.variable} names a SOCKS proxy, which needs the package socksio: pip install socksio, or "
                "unset the variable"
            ) from None
        except (httpx2.InvalidURL, ValueError):
            raise InvalidArgument(
                f"{self.variable} is not a proxy's URL like http://proxy.example.com:3128: correct or unset it"
            ) from None

    def __str__(self) -> str:
        """Returns the proxy's name for messages, without its password."""
        url = httpx2.URL(self.url)
        return f"{url.scheme}://{url.host}{'' if url.port is None else f':{url.port}'}, which {self.variable} names"


class EnvironmentTransport(httpx2.AsyncBaseTransport):
    """Connections, directly or through the proxy that the environment names for the address."""

    def __init__(self, limits: httpx2.Limits, verify: bool | ssl.SSLContext, ca_file: str | os.PathLike[str] | None):
        """`ca_file` contains the certificates of the only trusted authorities; without `verify`, accepts any."""
        self._limits = limits
        self._verify = verify
        self._ca_file = ca_file
        self._open: dict[tuple[bool, UsedProxy | None], httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns the answer to the request. Raises `InvalidArgument` for settings that cannot be used."""
        way = request.url.scheme == "https", proxy_for(request.url)
        if way not in self._open:
            self._open[way] = self._connect(*way)
        return await self._open[way].handle_async_request(request)

    async def aclose(self) -> None:
        """Closes all connections."""
        for transport in self._open.values():
            await transport.aclose()

    def _connect(self, is_https: bool, proxy: UsedProxy | None) -> httpx2.AsyncHTTPTransport:
        # Read certificates only for https: plain http must not fail because of them.
        context = self._context() if is_https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if proxy is not None:
            return proxy.transport(context, self._limits)
        return httpx2.AsyncHTTPTransport(verify=context, limits=self._limits, trust_env=False)

    def _context(self) -> ssl.SSLContext:
        if self._ca_file is not None:
            return _trusting("ca_file", Path(self._ca_file))
        if isinstance(self._verify, ssl.SSLContext):
            return self._verify
        return _authorities() if self._verify else httpx2.create_ssl_context(verify=False)


def proxy_for(url: httpx2.URL) -> UsedProxy | None:
    """Returns the proxy for an address; None for this machine, and for addresses that `no_proxy` lists."""
    proxies = getproxies()
    scheme = url.scheme if proxies.get(url.scheme) else "all"
    address = proxies.get(scheme)
    if not address or is_loopback(url.host) or proxy_bypass(url.host):
        return None
    return UsedProxy(address if "://" in address else f"http://{address}", _variable(f"{scheme}_proxy"))


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, judging by its name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _variable(name: str) -> str:
    return next((one for one in (name, name.upper()) if os.environ.get(one)), f"{name} of the system's settings")


def _authorities() -> ssl.SSLContext:
    """Returns the authorities that the environment names, else those of the system."""
    for variable, is_there in _AUTHORITIES:
        if path := os.environ.get(variable):
            if not is_there(Path(path)):
                raise InvalidArgument(f"{variable} names {path}, which does not exist: correct or unset the variable")
            return _trusting(variable, Path(path))
    return httpx2.create_ssl_context(trust_env=False)


def _trusting(source: str, path: Path) -> ssl.SSLContext:
    """Returns a context that trusts only the certificates in a file or folder."""
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = "it has no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise InvalidArgument(f"{source} names {path}, which cannot be used: {reason}") from None
