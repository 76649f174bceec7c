"""`xtrace serve`: settings by flag, environment and file, and what is wrong with them."""

import datetime
import json
import re
import ssl
import urllib.request
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.terminal import Terminal
from xtrace_core.environment import EXISTING_CLIENTS, PREFIX, TEST_PREFIX, VARIABLES
from xtrace_server.settings import Settings

SERVING = "serving on "


def test_a_flag_goes_before_the_environment_and_this_before_the_file(shell: Terminal) -> None:
    (shell.folder / "xtrace.toml").write_text('max_ids = 5\nlog_format = "text"\nmetrics = "loopback"\n')
    shell.environment |= {"XTRACE_CONFIG": "xtrace.toml", "XTRACE_MAX_IDS": "7", "XTRACE_METRICS": "off"}
    with shell.start("serve --data data --port 0 --set metrics=loopback --set log-format=json") as server:
        line = json.loads(server.wait_for(SERVING, error=True).splitlines()[-1])
        assert set(line) == {"time", "level", "logger", "message"}
        url = line["message"].removeprefix(SERVING)
        with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310
            assert b"xtrace_requests_total" in answer.read()


@pytest.mark.parametrize(
    ("flags", "sentence", "status"),
    [
        ("--set max_chunks", "NAME=VALUE", 2),
        ("--set max_chunks=1 --set max-chunks=2", "given twice", 2),
        ("--set port=1 --port 2", "given twice", 2),
        ("--set metrics_token=0123456789abcdef", "XTRACE_METRICS_TOKEN", 2),
        ("--database postgresql://user:secret@host/name", "XTRACE_DATABASE_URL", 2),
        ("--set database_url=postgresql://host/name?password=secret", "XTRACE_DATABASE_URL", 2),
        ("--set rate_store=redis://user:secret@host", "XTRACE_RATE_STORE", 2),
        ("--set rate_store=memcached://host", "redis://host", 1),
        ("--database mysql://host/name", "postgresql://", 1),
        ("--set database_connections=3", "DATABASE_CONNECTIONS", 1),
        ("--set max_chunks=many", "MAX_CHUNKS", 1),
        ("--set no_such_thing=1", "NO_SUCH_THING", 1),
        ("--config missing.toml", "cannot be read", 1),
        ("--tls-key key.pem", "together", 1),
        ("--port 8123 --ops-port 8123", "use a different", 1),
        ("--set cache_bytes=1073741824", "memory_bytes is 1073741824, expected at least", 1),
    ],
)
def test_what_is_wrong_is_one_sentence(shell: Terminal, flags: str, sentence: str, status: int) -> None:
    shell(f"serve --data data {flags}").fails(sentence, status)
    assert not (shell.folder / "data").exists()


def self_signed(folder: Path) -> None:
    """A certificate for this host, in `certificate.pem`, with its key in `key.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(encoding))
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def test_with_a_certificate_it_speaks_https(shell: Terminal) -> None:
    self_signed(shell.folder)
    shell.environment["XTRACE_LOG_FORMAT"] = "text"
    with shell.start("serve --data data --port 0 --tls-certificate certificate.pem --tls-key key.pem") as server:
        server.wait_for("serving on https://127.0.0.1:", error=True)
        url = json.loads((shell.folder / "data" / "credentials.json").read_text())["api_url"]
        trusting = ssl.create_default_context(cafile=str(shell.folder / "certificate.pem"))
        with urllib.request.urlopen(f"{url}/livez", context=trusting) as answer:  # noqa: S310
            assert answer.headers["strict-transport-security"]
    shell("serve --data data --tls-certificate key.pem --tls-key key.pem").fails("certificate or its key")


@pytest.mark.parametrize("command", ["serve", "org list", "vacuum"])
def test_a_variable_that_nothing_reads_is_refused(command: str, xtrace: Terminal) -> None:
    refused = xtrace(command, XTRACE_PROT="1")
    refused.fails("XTRACE_PROT is not a known environment variable of XTrace: did you mean XTRACE_PORT?")
    xtrace(command, xtrace_no_such="1").fails("xtrace_no_such is not a known environment variable")


def test_the_list_of_variables_is_complete() -> None:
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert not VARIABLES & settings
    sources = Path(__file__).parents[2] / "src"
    named = {
        name for file in sources.rglob("*.py") for name in re.findall(r"XTRACE_[A-Z][A-Z_]*[A-Z]", file.read_text())
    }
    assert named - settings - {TEST_PREFIX.rstrip("_")} <= VARIABLES | EXISTING_CLIENTS
    page = (sources.parent / "docs" / "cli.md").read_text() + (sources.parent / "docs" / "performance.md").read_text()
    assert {name for name in VARIABLES | EXISTING_CLIENTS if name not in page} == set()
