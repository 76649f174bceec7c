"""No object that leads to a secret shows it, or can be pickled or copied: found by walking through memory.

The walk begins at everything that a program can have of the SDK: contexts of every scheme and of other clients, key
providers, queries, pipelines, connections. What it meets is not listed here.
"""

import copy
import importlib
import json
import pickle
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xtrace_core.arithmetic
import xtrace_sdk
from support.aws import ALIAS, running_kms
from support.existing_client import ExistingClientKey
from support.object_graph import PACKAGES, ObjectGraph, is_data, is_ours
from support.recording_proxy import found
from support.schemes import SCHEMES, key_len
from support.secret_marks import key_marks
from xtrace_cli.options.connection import Connection
from xtrace_cli.options.settings import Setting, Source
from xtrace_core import wire
from xtrace_core.arithmetic.backends import backends
from xtrace_core.secrecy import Secretive
from xtrace_sdk import sync
from xtrace_sdk.http.transport import Request
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.sync._background import Twin
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.data_loaders.replacing import Replacing
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.inference.llm import InferenceClient
from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyFileProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_server.credentials import Credentials, OperatorCredentials

PASSPHRASE = "Zirkelquadratur-Passphrase"
API_KEY, ADMIN_KEY = "Fernmeldegeheimnis-4711", "Generalschluessel-0815"
BACKENDS = backends(1)
for package in (xtrace_sdk, xtrace_core.arithmetic):
    for found_module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found_module.name)


@pytest.fixture(scope="module")
def kms() -> Iterator[Any]:
    with running_kms() as running:
        yield running.client()


def cheap() -> PassphraseKeyProvider:
    return PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=4)


def contexts(folder: Path) -> list[ExecutionContext]:
    """One of each scheme, made and loaded, one with a predecessor, and those of other clients."""
    made = []
    for scheme in SCHEMES:
        first = ExecutionContext.create(
            cheap(), scheme, 64, key_len(scheme), path=folder / scheme, insecure_allow_weak_parameters=True
        )
        second = first.successor(cheap(), key_len=key_len(scheme), insecure_allow_weak_parameters=True)
        made += [
            first,
            second,
            sync.ExecutionContext.load_from_disk(PASSPHRASE, folder / scheme, insecure_allow_weak_encryption=True),
        ]
    for order_bits in (None, 224):
        key = ExistingClientKey(512, 64, order_bits)
        path = folder / f"theirs {order_bits}"
        path.write_text(json.dumps(key.context(PASSPHRASE)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made += [ExecutionContext.load_from_disk(PASSPHRASE, path)]
    return made


def everything(folder: Path, kms: Any) -> tuple[list[Any], dict[str, bytes]]:
    """The roots of the walk, and the secrets that are in them."""
    made = contexts(folder)
    marks = {"passphrase": PASSPHRASE.encode(), "API key": API_KEY.encode(), "admin key": ADMIN_KEY.encode()}
    marks |= key_marks(*made)
    recovery_key = RecoveryKey.generate()
    marks |= {"recovery key": recovery_key.key(), "recovery words": recovery_key.words().encode()}
    roots: list[Any] = [*made, cheap(), KeyFileProvider.create(folder / "key"), recovery_key]
    provider = AWSKMSKeyProvider.create(kms, ALIAS)
    assert provider._first is not None
    marks["data key"] = provider._first[0]
    roots.append(provider)
    for context in made:
        # Used once, so that what is prepared on first use is there.
        query = context.homomorphic.encrypt_queries([[1] * 64])
        if context.is_ours:
            index = context.homomorphic.encrypt_vec_batch([[1] * 64] * 20)
            context.homomorphic.decrypt_vec_batch([one.ciphertexts() for one in index], [one.nonce for one in index])
        roots += [query, context.chunk_names("kb", context.new_name_salt("kb"))]
    twins: tuple[Any, ...] = (sync.XTraceIntegration, sync.DataLoader, sync.Retriever)
    for kind, loader, retriever in ((XTraceIntegration, DataLoader, Retriever), twins):
        xtrace = kind("org", API_KEY, ADMIN_KEY, "http://127.0.0.1:1")
        roots += [xtrace, loader(made[0], xtrace), retriever(made[0], xtrace)]
    asynchronous = DataLoader(made[0], XTraceIntegration("org", API_KEY, ADMIN_KEY, "http://127.0.0.1:1"))
    encryptor, store = asynchronous._encryptor, asynchronous._store
    roots.append(Replacing([], [], encryptor, store, asynchronous._integration, "kb"))
    for model in (Embedding, sync.Embedding):
        roots += [model(provider, "model", 64, api_key=API_KEY) for provider in ("openai", "ollama")]
    for client in (InferenceClient, sync.InferenceClient):
        roots += [client(provider, "model", API_KEY) for provider in ("openai", "ollama")]
    roots.append(Request("GET", "http://127.0.0.1:1", {"x-api-key": API_KEY}))
    roots.append(wire.CreatedApiKey(wire.ApiKey("hash", API_KEY[:5], "name", "", "now", None), API_KEY))
    roots.append(wire.CreatedOrganisation(shown_organisation(), ADMIN_KEY, API_KEY))
    roots.append(wire.CreatedAdminKey(wire.AdminKey("hash", "now"), ADMIN_KEY))
    roots += [wire.CreatedOperatorKey(ADMIN_KEY), OperatorCredentials(ADMIN_KEY, "http://127.0.0.1:1")]
    roots.append(Credentials("org", ADMIN_KEY, API_KEY, "http://127.0.0.1:1"))
    roots.append(Connection({"api_key": Setting("api_key", API_KEY, Source("here", Path()))}))
    return roots, marks


def shown_organisation() -> wire.Organisation:
    usage, quotas = wire.Usage(0, 0, 0, 0, 0, 0), wire.Quotas(None, None, None, None, None)
    return wire.Organisation("org", "name", "active", "now", None, usage, quotas)


def is_secret_value(marks: dict[str, bytes]) -> Any:
    """Whether a plain value is one of the secrets, or has it in it."""
    raw = {mark for name, mark in marks.items() if not name.endswith(("hexadecimal", "decimal"))}
    numbers = {int.from_bytes(mark, "big") for mark in raw}
    numbers |= {number * number for number in numbers}
    texts = [mark for name, mark in marks.items() if not name.endswith("hexadecimal")]

    def is_secret(subject: Any) -> bool:
        if isinstance(subject, str | bytes | bytearray):
            data = subject.encode("utf-8", "replace") if isinstance(subject, str) else bytes(subject)
            return len(data) < 100_000 and any(mark in data for mark in texts)
        if isinstance(subject, np.ndarray | np.generic) or (is_data(subject) and not hasattr(subject, "bit_length")):
            return False
        return is_data(subject) and int(subject) in numbers

    return is_secret


def shown(subject: Any) -> str:
    try:
        return f"{subject!r} {subject!s}"
    except Exception as error:  # an object that is not whole yet
        return str(error)


def pickled(subject: Any) -> bytes:
    try:
        return pickle.dumps(subject)
    except Exception:
        return b""


class Walk:
    """What was met with one backend of the arithmetic, and the secrets that were in it."""

    def __init__(self, roots: list[Any], marks: dict[str, bytes]) -> None:
        self.marks = marks
        self.graph = ObjectGraph(*roots, foreign=["botocore"])
        self.objects = [one for one in self.graph.objects.values() if not is_data(one)]

    def holders(self) -> list[Any]:
        """The objects of our classes that lead to a secret."""
        return [one for one in self.graph.leading_to(is_secret_value(self.marks)) if is_ours(one)]


@pytest.fixture(scope="module")
def walks(kms: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Walk]:
    """A walk with each backend, in all modules that took the chosen one when they were imported."""
    done, chosen = {}, xtrace_core.arithmetic.arithmetic
    for name, backend in BACKENDS.items():
        with pytest.MonkeyPatch.context() as patch:
            for module in list(sys.modules.values()):
                if getattr(module, "arithmetic", None) is chosen:
                    patch.setattr(module, "arithmetic", backend)
            done[name] = Walk(*everything(tmp_path_factory.mktemp(name), kms))
    return done


@pytest.mark.parametrize("backend", BACKENDS)
class TestWhatLeadsToASecret:
    def test_shows_none(self, backend: str, walks: dict[str, Walk]) -> None:
        walk = walks[backend]
        assert found(walk.marks, "\n".join(map(shown, walk.objects)).encode("utf-8", "replace")) == []

    def test_gives_none_away_in_a_pickle(self, backend: str, walks: dict[str, Walk]) -> None:
        walk = walks[backend]
        assert found(walk.marks, b"\n".join(map(pickled, walk.objects))) == []

    def test_cannot_be_pickled_or_copied(self, backend: str, walks: dict[str, Walk]) -> None:
        holders = walks[backend].holders()
        assert {type(one) for one in holders if not isinstance(one, Secretive)} == set()
        for subject in holders:
            pickling = () if isinstance(subject, PICKLED_WITHOUT_SECRETS) else (pickle.dumps,)
            for attempt in (*pickling, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="secrets"):
                    attempt(subject)

    def test_has_no_dictionary_if_it_is_part_of_a_key(self, backend: str, walks: dict[str, Walk]) -> None:
        keys = ObjectGraph(*[one for one in walks[backend].objects if isinstance(one, ContextKeys)])
        secretive = [one for one in keys.objects.values() if isinstance(one, Secretive)]
        assert {type(one) for one in secretive if hasattr(one, "__dict__")} == set()


PICKLED_WITHOUT_SECRETS = (Embedding, sync.Embedding)
"""Classes that pickle everything but their secret; a twin asks its core."""
INHERITED = ("__repr__", "__reduce_ex__", "__copy__", "__deepcopy__")


def test_every_class_that_says_that_it_holds_secrets_keeps_them(walks: dict[str, Walk]) -> None:
    """Also those whose objects live for one call only, which the walk does not meet."""
    met = [one for walk in walks.values() for one in walk.objects]
    classes = secretive_classes(Secretive)
    assert len(classes) > 30
    for cls in classes:
        own = [name for name in INHERITED if getattr(cls, name) is not getattr(Secretive, name)]
        # One that shows more than its name must have been looked at.
        allowed = {"__repr__"} if any(isinstance(one, cls) for one in met) else set()
        if issubclass(cls, (*PICKLED_WITHOUT_SECRETS, Twin)):
            allowed.add("__reduce_ex__")
        assert set(own) <= allowed, cls


def secretive_classes(base: type) -> list[type]:
    """The classes of the product that derive from this one."""
    children: list[type] = base.__subclasses__()
    ours = [cls for cls in children if cls.__module__.startswith(PACKAGES)]
    # A dataclass with slots leaves the class behind that it was made from.
    named = [cls for cls in ours if getattr(sys.modules[cls.__module__], cls.__name__) is cls]
    return named + [one for child in named for one in secretive_classes(child)]


@dataclass
class Shown:
    prime: int


def test_the_walk_notices_each_way_to_give_a_secret_away(walks: dict[str, Walk]) -> None:
    marks = next(iter(walks.values())).marks
    prime = int.from_bytes(next(mark for name, mark in marks.items() if name.endswith(" p")), "big")
    closure: Any = (lambda number: lambda: number)(prime)
    partly = partial(pow, 2, prime)
    for planted in (Shown(prime), closure, partly, [{"deep": (Shown(prime),)}]):
        walk = Walk([planted], marks)
        leading = walk.graph.leading_to(is_secret_value(marks))
        assert any(one is planted for one in leading)
    for planted in (Shown(prime), partly):
        assert found(marks, shown(planted).encode())
        assert found(marks, pickled(planted))
