"""Randomness that a repeating generator cannot break, and that nothing else draws any."""

import ast
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xtrace_sdk.x_vec
from support.crypto_support import SCHEMES, client
from support.existing_client import ExistingClientKey
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.compat.content import ExistingContentCipher
from xtrace_sdk.x_vec.compat.paillier import load_existing
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.sealed_secret import Envelope

SOURCES = Path(xtrace_sdk.x_vec.__path__[0])
NONCES = bytes(30), bytes(29) + b"\1"
TEXTS = "the first text of a machine", "the second text of a machin"


@pytest.fixture
def repeating(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was restored from an image: its generator gives the same bytes again and again."""
    monkeypatch.setattr(secrets, "token_bytes", lambda size: bytes(size))


@pytest.mark.usefixtures("repeating")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", [6, 300, 600])
class TestARepeatingGenerator:
    def test_gives_different_vectors_different_nonces_and_noise(self, scheme: str, embed_len: int) -> None:
        owner = client(scheme, 256, embed_len)
        vectors = np.zeros((3, embed_len), dtype=np.uint8)
        vectors[1, -1] = 1
        batch = owner.encrypt_vec_batch(vectors)
        same, other, again = batch
        assert same == again
        assert same.nonce[:16] != other.nonce[:16]
        assert same.nonce[16:] != other.nonce[16:]
        assert all(a != b for a, b in zip(same, other, strict=True))

    def test_does_not_give_the_difference_of_two_queries(self, scheme: str, embed_len: int) -> None:
        owner = client(scheme, 256, embed_len)
        zeros, ones = [0] * embed_len, [0] * (embed_len - 1) + [1]
        queries = [owner.encrypt_query(vector) for vector in (zeros, ones, zeros)]
        assert queries[0].ciphertexts == queries[2].ciphertexts  # which would have been known anyway
        n = owner.n
        for a, b in zip(queries[0].ciphertexts, queries[1].ciphertexts, strict=True):
            ratio = int.from_bytes(a, "little") * pow(int.from_bytes(b, "little"), -1, n * n) % (n * n)
            assert ratio % n != 1  # equal noise leaves 1 + (difference)·n

    def test_gives_each_ciphertext_of_a_query_noise_of_its_own(self, scheme: str, embed_len: int) -> None:
        owner = client(scheme, 256, embed_len)
        query = owner.encrypt_query([0] * embed_len)
        noise = [query.noise(t, prime) for t in range(len(query.ciphertexts)) for prime in (0, 1)]
        assert len(set(noise)) == len(noise)


def ciphers() -> dict[str, ContentCipher]:
    hedge = Hedge(bytes(32))
    return {"ours": ContentCipher(bytes(32), hedge), "other clients": ExistingContentCipher(bytes(32), hedge, None)}


@pytest.mark.usefixtures("repeating")
@pytest.mark.parametrize("kind", ciphers())
def test_a_repeating_generator_does_not_give_the_xor_of_two_texts(kind: str) -> None:
    cipher = ciphers()[kind]
    stored = [cipher.encrypt(text) for text in TEXTS]
    assert stored[0][:20] != stored[1][:20]
    assert cipher.encrypt(TEXTS[0]) == stored[0]


@pytest.mark.usefixtures("repeating")
def test_a_repeating_generator_gives_one_text_under_two_nonces_different_keys_and_ivs() -> None:
    cipher = ciphers()["ours"]
    one, other = (cipher.encrypt(TEXTS[0], nonce) for nonce in NONCES)
    assert one[:20] != other[:20]
    assert one[44:] != other[44:]


@pytest.mark.usefixtures("repeating")
def test_a_repeating_generator_does_not_seal_two_secrets_under_one_iv() -> None:
    one, other = (Envelope(bytes(32), (bytes(80),), b"").seal(secret) for secret in (b'{"p":"b"}', b'{"p":"d"}'))
    assert one[116:136] != other[116:136]


@pytest.mark.usefixtures("repeating")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_repeating_generator_does_not_give_the_difference_of_vectors_of_other_clients(scheme: str) -> None:
    key = ExistingClientKey(512, 100, 224 if scheme == "paillier_lookup" else None)
    context = key.context()
    owner = load_existing(context["type"], context["pk"], context["config"], key.secret_key, Hedge(bytes(32)))
    batch = owner.encrypt_vec_batch([[0] * 100, [1] * 100])
    ratio = batch[0][0] * pow(batch[1][0], -1, key.n**2) % key.n**2
    assert ratio % key.n != 1


def test_what_is_drawn_depends_on_every_part_and_where_it_ends() -> None:
    hedge, fresh = Hedge(bytes(32)), bytes(32)
    draws = [
        hedge._draw_with(fresh, purpose, parts, 48)
        for purpose, parts in (
            ("iv", [b"ab", b"c"]),
            ("iv", [b"a", b"bc"]),
            ("iv", [b"abc"]),
            ("iv", [b"abc", b""]),
            ("iva", [b"bc"]),
            ("iv", []),
        )
    ]
    draws += [
        hedge._draw_with(b"\1" + fresh[1:], "iv", [b"abc"], 48),
        Hedge(b"\1" * 32)._draw_with(fresh, "iv", [], 48),
    ]
    assert len(set(draws)) == len(draws)
    assert len({draw[:16] for draw in draws} | {draw[32:] for draw in draws}) == 2 * len(draws)


def test_rows_are_drawn_as_one_by_one() -> None:
    hedge, rows = Hedge(bytes(range(32))), np.arange(24, dtype=np.uint8).reshape(4, 6)
    fresh = bytes(range(128))
    together = hedge._draw_rows_with(fresh, "nonce", rows, 16)
    for i, row in enumerate(rows):
        alone = hedge._draw_with(fresh[32 * i : 32 * i + 32], "nonce", [row.tobytes()], 16)
        assert together[i].tobytes() == alone


# An architecture test: where randomness may come from

EXEMPT = {
    "keys/hedging.py": "the one source",
    "keys/passphrase.py": "salts of new keys",
    "keys/key_file.py": "new key files and salts",
    "keys/aws_kms.py": "nothing is drawn",
    "keys/recovery.py": "new recovery keys",
    "keys/sealed_secret.py": "the own key of a new context",
    "contexts/context_keys.py": "new keys of a context",
    "schemes/lattice/keys.py": "new keys of a context",
    "schemes/paillier/noise.py": "new keys of a context",
    "schemes/paillier/primes.py": "new keys of a context",
    "schemes/paillier/lookup.py": "new keys of a context, and which rows are tested",
    "schemes/paillier/scheme.py": "which rows are tested",
    "compat/paillier.py": "which rows are tested",
    "retrievers/decoys.py": "which decoys are fetched",
    "stored/sealing.py": "at which chunk sealing begins",
    "local/verifying.py": "which contents are compared",
    "upkeep/bad_blocks.py": "which vector is compared with every block",
}
"""Modules that draw from the system's generator, and what. None of it is used to encrypt chunks or queries."""

DRAWN_IN: dict[str, set[str]] = {
    "schemes/lattice/keys.py": {"generate"},
    "schemes/paillier/noise.py": {"generate"},
    "schemes/paillier/scheme.py": {"_encrypt_with_nonces"},
    "schemes/paillier/lookup.py": {"generate", "_check_table"},
    "compat/paillier.py": {"_encrypt"},
    "contexts/context_keys.py": {"generate"},
    "keys/sealed_secret.py": {"new"},
}
"""The functions that may draw, in modules that also encrypt."""

SOURCES_OF_RANDOMNESS = (
    "secrets",
    "random",
    "os.urandom",
    "uuid",
    "numpy.random",
    "np.random",
    "SystemRandom",
    "gmpy2.random",
)


def draws(path: Path) -> Iterator[tuple[str, str]]:
    """Every use of a source of randomness in a module, with the function that it is in."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        text = ast.unparse(node)
        module, _, name = text.rpartition(".")
        if (module in SOURCES_OF_RANDOMNESS and name) or text in SOURCES_OF_RANDOMNESS[2:]:
            inside = [f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
            yield text, inside[-1] if inside else ""


def test_only_named_modules_draw_from_another_source() -> None:
    found = {str(path.relative_to(SOURCES)): list(draws(path)) for path in SOURCES.rglob("*.py")}
    assert {name for name, uses in found.items() if uses} <= set(EXEMPT)
    assert found["keys/hedging.py"], "the search finds what is there"
    for name, allowed in DRAWN_IN.items():
        assert {function for _, function in found.get(name, [])} <= allowed, name
