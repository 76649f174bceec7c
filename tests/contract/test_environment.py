"""Proxies and certificates of the environment: what is used, what never is, and one sentence for what cannot be."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.authority import Certificates, certificates
from support.service import running_service
from xtrace_sdk.errors import InvalidArgument, NetworkError, ProviderFault, ServerUnreachable
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_server.credentials import Credentials

pytestmark = pytest.mark.usefixtures("database")

ELSEWHERE = "http://service.invalid"
"""A name that nobody can resolve (RFC 6761): only a proxy answers for it."""
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def integration(url: str, **settings: object) -> XTraceIntegration:
    return XTraceIntegration("org", "key", "admin", url, retries=Retries(attempts=1), **settings)  # type: ignore[arg-type]


async def listed(url: str, **settings: object) -> list[str]:
    async with integration(url, **settings) as xtrace:
        return await xtrace.list_exec_contexts()


@asynccontextmanager
async def answering_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """A forward proxy that answers itself; its address, and the request lines that it got."""
    lines: list[str] = []
    answer = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"contexts": []}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines


# Proxies


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_proxy_is_used_for_other_machines(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering_proxy() as (url, lines):
        monkeypatch.setenv(variable, url.removeprefix("http://"))
        assert await listed(ELSEWHERE) == []
        assert lines == [f"GET {ELSEWHERE}/v1/exec_context/org HTTP/1.1"]
        monkeypatch.setenv("no_proxy", "service.invalid")
        with pytest.raises(ServerUnreachable) as raised:
            await listed(ELSEWHERE)
        assert "proxy" not in str(raised.value)
        assert len(lines) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
async def test_no_proxy_is_used_to_this_machine(
    host: str, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering_proxy() as (url, lines):
        for variable in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(variable, url)
        address = credentials.api_url.replace("127.0.0.1", host)
        xtrace = XTraceIntegration(
            credentials.org_id, credentials.api_key, api_url=address, retries=Retries(attempts=1)
        )
        async with xtrace:
            if host == "127.0.0.2":  # where nothing listens
                with pytest.raises(ServerUnreachable):
                    await xtrace.list_exec_contexts()
            else:
                assert await xtrace.list_exec_contexts() == []
        assert lines == []


async def test_what_goes_wrong_behind_a_proxy_names_it_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:1")
    with pytest.raises(ServerUnreachable, match=r"through the proxy http://127\.0\.0\.1:1, which HTTP_PROXY") as raised:
        await listed(ELSEWHERE)
    assert "secret" not in str(raised.value)
    with pytest.raises(ProviderFault, match="which HTTP_PROXY names"):
        await Embedding("ollama", "m", 3, base_url=ELSEWHERE, retries=Retries(attempts=1)).embed("text")


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("http_proxy", "http://[bad", "http_proxy is not a proxy's URL"),
        ("HTTP_PROXY", "http://", "HTTP_PROXY is not a proxy's URL"),
        ("http_proxy", "http://host:notaport", "http_proxy is not a proxy's URL"),
        ("all_proxy", "ftp://proxy:21", "all_proxy is not a proxy's URL"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "ALL_PROXY names a SOCKS proxy, which needs the package socksio"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_one_sentence_that_names_the_variable(
    variable: str, value: str, complaint: str, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidArgument, match=complaint):
        await listed(ELSEWHERE)
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
        assert await xtrace.list_exec_contexts() == []


# Certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def over_tls(files: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Credentials]:
    folder = tmp_path_factory.mktemp("tls") / "data"
    with running_service(folder, tls_certificate=files.server, tls_key=files.server_key) as service:
        yield service.new_organisation()


Connect = Callable[..., XTraceIntegration]


@pytest.fixture
def connect(over_tls: Credentials) -> Connect:
    def connected(**settings: object) -> XTraceIntegration:
        return XTraceIntegration(
            over_tls.org_id,
            over_tls.api_key,
            api_url=over_tls.api_url.replace("http://", "https://"),
            retries=Retries(attempts=1),
            **settings,  # type: ignore[arg-type]
        )

    return connected


async def test_a_private_authority_is_trusted_where_it_is_named(
    connect: Connect, files: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=files.authority)
    for settings in ({"ca_file": files.authority}, {"verify": trusting}, {"verify": False}):
        async with connect(**settings) as xtrace:
            assert await xtrace.list_exec_contexts() == []
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
    async with connect() as xtrace:
        assert await xtrace.list_exec_contexts() == []


async def test_an_unknown_authority_is_refused(connect: Connect, tmp_path: Path) -> None:
    for settings in ({}, {"ca_file": certificates(tmp_path).authority}):
        async with connect(**settings) as xtrace:
            with pytest.raises(NetworkError, match="certificate"):
                await xtrace.list_exec_contexts()


async def test_an_api_of_models_is_reached_over_a_private_authority(over_tls: Credentials, files: Certificates) -> None:
    url = over_tls.api_url.replace("http://", "https://")
    with pytest.raises(ProviderFault, match="certificate"):
        await Embedding("ollama", "m", 3, base_url=url, retries=Retries(attempts=1)).embed("text")
    with pytest.raises(ProviderFault, match="status 404"):  # the server answers, although it has no models
        await Embedding("ollama", "m", 3, base_url=url, ca_file=files.authority).embed("text")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_missing_certificates_are_one_sentence_that_names_the_variable(
    variable: str, connect: Connect, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/no/such/place")
    with pytest.raises(InvalidArgument, match=f"{variable} names /no/such/place, which does not exist"):
        await connect().list_exec_contexts()
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
        assert await xtrace.list_exec_contexts() == []


async def test_certificates_that_are_not_any_are_one_sentence(connect: Connect, files: Certificates) -> None:
    with pytest.raises(InvalidArgument, match=r"ca_file names .*, which cannot be used: No such file"):
        await connect(ca_file=files.authority.parent / "x").list_exec_contexts()
    with pytest.raises(InvalidArgument, match=r"ca_file names .*, which cannot be used: it has no certificates"):
        await connect(ca_file=files.server_key).list_exec_contexts()
    with pytest.raises(InvalidArgument, match="got verify and ca_file"):
        connect(ca_file=files.authority, verify=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("[::1]:11434", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::]:80", "http://[::1]:80"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104
        ("host:80", "http://host:80"),
    ],
)
def test_the_host_of_ollama_is_read_as_ollama_reads_it(given: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    source = Embedding("ollama", "m", 3)._source
    assert getattr(source, "_base_url") == url  # noqa: B009
