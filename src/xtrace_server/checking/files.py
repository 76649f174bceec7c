"""Checks the data folder, its key files, and the certificate."""

import os
import shutil
import ssl
import stat
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from xtrace_server.checking.findings import Finding, error, ok, warning
from xtrace_server.credentials import CREDENTIALS_FILE, OPERATOR_FILE, read_credentials, read_operator_credentials
from xtrace_server.settings import Settings
from xtrace_server.storage.folder_lock import FolderInUse, no_server_running

_SOON: Final = timedelta(days=14)
_FREE_BYTES: Final = 2**30
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Checks whether the folder can be used, and whether another server uses it."""
    folder = settings.data
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        yield error(f"{existing} is not a folder: name another one with --data")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield error(f"{existing} cannot be written by this user: change its owner, or name another folder with --data")
        return
    if existing == folder:
        yield from _used_folder(settings)
        if folder.stat().st_mode & _OTHERS & ~(stat.S_IXGRP | stat.S_IXOTH):
            yield warning(f"other users of this host can read {folder}: set its mode to 0700")
    else:
        yield ok(f"{folder} will be created.")
    free = shutil.disk_usage(existing).free
    least = max(_FREE_BYTES, settings.ballast_bytes)
    if free < least:
        yield warning(f"{existing} has {free // 2**20} MiB free: free disk space, at least {least // 2**20} MiB")


def _used_folder(settings: Settings) -> Iterator[Finding]:
    try:
        with no_server_running(settings.data):
            yield ok(f"{settings.data} can be written, and no server runs on it.")
    except FolderInUse:
        if settings.shared:
            yield ok(
                f"{settings.data} can be written; other servers run on it, which must all be started with --shared."
            )
        else:
            yield error(
                f"a server runs on {settings.data}: stop it before this one starts, name another folder with --data, "
                "or start every server on this folder with --shared"
            )


def check_keys(settings: Settings) -> Iterator[Finding]:
    """Checks the files in which the first start wrote the keys."""
    readers: dict[str, Callable[[Path], object]] = {
        CREDENTIALS_FILE: read_credentials,
        OPERATOR_FILE: read_operator_credentials,
    }
    for name, read in readers.items():
        path = settings.data / name
        try:
            read(path)
        except FileNotFoundError:
            continue
        except OSError as unreadable:
            yield error(f"{path} cannot be read: {unreadable.strerror}; change its owner")
        except msgspec.DecodeError:
            yield error(f"{path} does not contain credentials: move it elsewhere, or restore it")
        else:
            yield from _only_owner_reads(path)


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Warns of a configuration file with secrets that other users can read."""
    if settings.config is None:
        return
    in_file = tomllib.loads(settings.config.read_text())
    urls = [str(in_file.get(name, "")) for name in ("database_url", "rate_store")]
    users = [url.partition("://")[2].partition("/")[0].rpartition("@")[0] for url in urls]
    if "metrics_token" in in_file or any(":" in user for user in users) or any("password=" in url for url in urls):
        yield from _only_owner_reads(settings.config)


def _only_owner_reads(path: Path) -> Iterator[Finding]:
    if path.stat().st_mode & _OTHERS:
        yield warning(f"{path} contains a secret, and other users of this host can read it: set its mode to 0600")


def check_certificate(settings: Settings) -> Iterator[Finding]:
    """Checks whether the certificate belongs to its key, and is valid now and for a while."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_certificate, settings.tls_key)
        certificates = x509.load_pem_x509_certificates(settings.tls_certificate.read_bytes())
    except (OSError, ValueError) as unusable:  # an SSLError is an OSError
        yield error(f"the TLS certificate or its key cannot be used ({unusable}): correct tls_certificate and tls_key")
        return
    now = datetime.now(UTC)
    ends = min(certificate.not_valid_after_utc for certificate in certificates)
    if max(certificate.not_valid_before_utc for certificate in certificates) > now:
        yield error(f"{settings.tls_certificate} is not valid yet: set the clock, or wait")
    elif ends < now:
        yield error(f"{settings.tls_certificate} expired at {ends:%Y-%m-%d %H:%M} UTC: renew it")
    elif ends < now + _SOON:
        yield warning(f"{settings.tls_certificate} expires at {ends:%Y-%m-%d %H:%M} UTC: renew it, then restart")
    else:
        yield ok(f"The TLS certificate belongs to its key and is valid until {ends:%Y-%m-%d}.")
    yield from _only_owner_reads(settings.tls_key)
