"""Keys of other clients of the wire format: what they encrypted is read, and they read what is encrypted."""

import base64
import json
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.existing_client import PASSPHRASE, ExistingClientKey, content_key, encrypt_content, fixture
from xtrace_sdk.errors import ContentTampered, InvalidArgument, InvalidContext, UnknownScheme
from xtrace_sdk.x_vec.compat.content import ExistingContentCipher
from xtrace_sdk.x_vec.compat.paillier import ExistingClient, is_secret_key, load_existing
from xtrace_sdk.x_vec.keys.aead import unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge

HEDGE = Hedge(bytes(32))
SCHEMES = ("paillier", "paillier_lookup")
WEAK_ORDER = 25
STRONG_ORDER = 224


def loaded(key: ExistingClientKey) -> ExistingClient:
    context = key.context()
    return load_existing(context["type"], context["pk"], context["config"], key.secret_key, HEDGE)


def new_key(scheme: str, key_len: int = 512, embed_len: int = 100, **options: Any) -> ExistingClientKey:
    return ExistingClientKey(key_len, embed_len, WEAK_ORDER if scheme == "paillier_lookup" else None, **options)


def vectors(count: int, embed_len: int) -> NDArray[np.uint8]:
    return np.random.default_rng(embed_len).integers(0, 2, (count, embed_len), dtype=np.uint8)


def products(key: ExistingClientKey, rows: list[list[int]], query: list[int]) -> list[list[int]]:
    return [[a * b % key.n**2 for a, b in zip(row, query, strict=True)] for row in rows]


def numbers(ciphertexts: list[bytes]) -> list[int]:
    return [int.from_bytes(one, "little") for one in ciphertexts]


def fixture_client(scheme: str) -> tuple[ExistingClient, dict[str, Any]]:
    data = fixture(scheme)
    context = data["context"]
    key = content_key(data["passphrase"], base64.b64decode(context["wrapped_key"]))
    secret_key = unseal(key, base64.b64decode(context["sk"]), None).decode()
    return load_existing(context["type"], context["pk"], context["config"], secret_key, HEDGE), data


@pytest.mark.parametrize("scheme", SCHEMES)
class TestFixtures:
    """What a published client wrote."""

    def test_products_and_vectors_are_read(self, scheme: str) -> None:
        client, data = fixture_client(scheme)
        rows = data["rows"]
        query = client.encrypt_query([int(bit) for bit in data["query"]])
        sums = [[base64.b64decode(one) for one in row["product_with_query"]] for row in rows]
        expected = [row["distance"] for row in rows]
        for read in (client.read_distances, client.confirm_distances):
            distances, valid = read(sums, [None] * len(rows), query)
            assert valid.all()
            assert distances.tolist() == expected
        stored = [[base64.b64decode(one) for one in row["index"]] for row in rows]
        bits, valid = client.decrypt_vec_batch(stored, [None] * len(rows))
        assert valid.all()
        assert ["".join(map(str, vector)) for vector in bits.tolist()] == [row["vector"] for row in rows]

    def test_our_queries_give_the_same_distances(self, scheme: str) -> None:
        client, data = fixture_client(scheme)
        rows, n = data["rows"], client.n
        query = client.encrypt_query([int(bit) for bit in data["query"]])
        stored = [numbers([base64.b64decode(one) for one in row["index"]]) for row in rows]
        own = numbers(query.ciphertexts)
        sums = [[a * b % n**2 for a, b in zip(row, own, strict=True)] for row in stored]
        distances = client.decode_hamming_client_batch(sums, [b""] * len(rows), query)
        assert distances.tolist() == [row["distance"] for row in rows]

    def test_content_is_read(self, scheme: str) -> None:
        _, data = fixture_client(scheme)
        key = content_key(data["passphrase"], base64.b64decode(data["context"]["wrapped_key"]))
        cipher = ExistingContentCipher(key, HEDGE, data["context"]["sk"])
        for row in data["rows"]:
            assert cipher.decrypt_bytes(row["chunk_content"]).decode() == row["text"]
        assert cipher.decrypt_bytes(cipher.encrypt("ünïcode")) == "ünïcode".encode()


def test_which_fixture_is_weak() -> None:
    assert "noise groups have orders of 25 bits" in fixture_client("paillier_lookup")[0].weakness
    assert not fixture_client("paillier")[0].weakness
    assert "primes have 512 bits" in loaded(new_key("paillier")).weakness
    assert not loaded(ExistingClientKey(1024, 8, STRONG_ORDER)).weakness
    assert "orders of 223 bits, expected at least 224" in loaded(ExistingClientKey(1024, 8, STRONG_ORDER - 1)).weakness


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", [1, 8, 100, 255, 256, 511, 600])
def test_every_length_is_read_whoever_encrypted_it(scheme: str, embed_len: int) -> None:
    key = new_key(scheme, 256 if embed_len in (255, 256, 511) else 512, embed_len)
    client, matrix = loaded(key), vectors(4, embed_len)
    query = client.encrypt_query(matrix[0])
    theirs = [key.encrypt(vector) for vector in matrix.tolist()]
    ours = [list(index) for index in client.encrypt_vec_batch(matrix)]
    expected = (matrix != matrix[0]).sum(axis=1).tolist()
    for rows in (theirs, ours):
        bits, valid = client.decrypt_vec_batch(rows, [None] * 4)
        assert valid.all()
        assert np.array_equal(bits, matrix)
        sums = products(key, rows, numbers(query.ciphertexts))
        assert client.decode_hamming_client_batch(sums, [None] * 4, query).tolist() == expected
        assert client.read_distances(sums, [None] * 4, query)[0].tolist() == expected


@pytest.mark.parametrize("scheme", SCHEMES)
def test_they_read_what_we_encrypt(scheme: str) -> None:
    """Decryption as the other client does it: modulo n², by the exponent and the constant of its secret key."""
    key = new_key(scheme)
    client, vector = loaded(key), vectors(1, 100)[0]
    secret = {name: int(value) for name, value in json.loads(key.secret_key).items()}
    exponent, inverse = secret.get("a", secret["phi"]), secret.get("g_a_inv", secret.get("inv", 0))
    encoded = int("".join(f"0{bit}" for bit in vector), 2)
    for index in (list(client.encrypt_vec_one(vector)), numbers(client.encrypt_query(vector).ciphertexts)):
        assert (pow(index[0], exponent, key.n**2) - 1) // key.n * inverse % key.n == encoded


@pytest.mark.parametrize("scheme", SCHEMES)
def test_primes_too_small_for_one_prime_are_read_under_both(scheme: str) -> None:
    embed_len = 256  # 2·(4^256 − 1)/3 is 1.33 · 2^511, above both primes
    key = new_key(scheme, 512, embed_len, smallest=True)
    assert all(prime.bit_length() == 512 and prime < 2 * (4**embed_len - 1) // 3 for prime in key.primes)
    client = loaded(key)
    assert not client._one_prime
    ones = np.ones(embed_len, dtype=np.uint8)
    query = client.encrypt_query(ones)
    sums = products(key, [key.encrypt(ones.tolist()), key.encrypt([0] * embed_len)], numbers(query.ciphertexts))
    assert client.read_distances(sums, [None] * 2, query)[0].tolist() == [0, embed_len]
    shorter = loaded(new_key(scheme, 512, embed_len - 1, smallest=True))
    assert shorter._one_prime


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bad_rows_are_noticed(scheme: str) -> None:
    key = new_key(scheme)
    client, vector = loaded(key), [1] * 100
    query = client.encrypt_query(vector)
    good = products(key, [key.encrypt(vector)], numbers(query.ciphertexts))[0]
    p, square = key.primes[0], key.n**2
    three = good[0] * pow(key.g, 3, square) % square  # a pair that reads 1 + 1 + 3
    rows = [good, [], good * 2, [0], [square], [p], [three], [good[0] * pow(key.g, 4**100, square) % square]]
    for read in (client.read_distances, client.confirm_distances):
        _, valid = read(rows, [None] * len(rows), query)
        assert valid.tolist() == [True] + [False] * 7
    _, valid = client.read_distances([good], [bytes(14)], query)
    assert not valid.any()
    _, valid = client.decrypt_vec_batch([good, key.encrypt(vector)], [None, None])
    assert valid.tolist() == [False, True]  # a sum is no vector
    with pytest.raises(InvalidArgument, match="counts must match"):
        client.read_distances([good], [], query)


def test_noise_outside_the_group_is_noticed() -> None:
    key = new_key("paillier_lookup")
    client = loaded(key)
    row = key.encrypt([0] * 100)[0] * pow(3, key.n, key.n**2) % key.n**2
    assert not client.decrypt_vec_batch([[row]], [None])[1].any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_server_cannot_tell_two_readings_apart_by_what_is_raised_to_the_exponent(scheme: str) -> None:
    """Each batch is multiplied by fresh noise: the base of the secret exponent is not the server's."""
    side = loaded(new_key(scheme))._sides[0]
    assert len({side.noise("blinding", np.zeros((1, 8), np.uint8)).tobytes() for _ in range(5)}) == 5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_keys_that_do_not_fit_together_are_refused_without_their_values(scheme: str) -> None:
    key, other = new_key(scheme), new_key(scheme)
    context = key.context()
    pk, secret = json.loads(context["pk"]), json.loads(key.secret_key)
    changes: list[tuple[Any, Any]] = [
        (pk, json.loads(other.secret_key)),
        (pk | {"n": other.n}, secret),
        (pk | {"g": 1}, secret),
        (pk | {"g": 0}, secret),
        (pk | {"n": True}, secret),
        (pk | {"n": -key.n}, secret),
        (pk | {"n": "x"}, secret),
        ({"g": pk["g"]}, secret),
        ([], secret),
        (pk, []),
        (pk, secret | {"phi": None}),
        (pk, {name: secret[name] for name in secret if name != "phi"}),
    ]
    if scheme == "paillier_lookup":
        changes.append((pk | {"g": 1 + key.n}, secret))  # its noise would be none
    for public, private in changes:
        with pytest.raises(InvalidContext) as caught:
            load_existing(context["type"], json.dumps(public), context["config"], json.dumps(private), HEDGE)
        assert str(key.phi)[:20] not in str(caught.value)
    for config in ("{}", "[]", '{"embed_len": 100, "key_len": 510}', '{"embed_len": 0, "key_len": 512}', "[" * 10**5):
        with pytest.raises(InvalidContext):
            load_existing(context["type"], context["pk"], config, key.secret_key, HEDGE)
    with pytest.raises(UnknownScheme, match="BFV"):
        load_existing("BFV", context["pk"], context["config"], key.secret_key, HEDGE)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_content_that_is_a_secret_key_is_refused(scheme: str) -> None:
    key = new_key(scheme)
    context = key.context()
    content = content_key(PASSPHRASE, base64.b64decode(context["wrapped_key"]))
    cipher = ExistingContentCipher(content, HEDGE, context["sk"])
    with pytest.raises(ContentTampered, match="stored secret key"):
        cipher.decrypt_bytes(context["sk"])
    # Another copy, and that of another context under the same passphrase.
    for secret_key in (key.secret_key, new_key(scheme).secret_key):
        with pytest.raises(ContentTampered, match="is a secret key"):
            cipher.decrypt_bytes(encrypt_content(content, secret_key))
    for text in ("{}", '{"phi": 3}', '["phi", "inv"]', '{"phi', "phi inv", "[" * 10**5, ""):
        assert not is_secret_key(text.encode())
        assert cipher.decrypt_bytes(encrypt_content(content, text)).decode() == text
    with pytest.raises(ContentTampered):
        cipher.decrypt_bytes(encrypt_content(content, "text"), bytes(14))
    for damaged in ("", "!", context["sk"][:-8] + "AAAAAAA="):
        with pytest.raises(ContentTampered):
            cipher.decrypt_bytes(damaged)


def test_objects_with_secrets_show_nothing() -> None:
    client = loaded(new_key("paillier_lookup"))
    for subject in (client, client._sides[0], ExistingContentCipher(bytes(32), HEDGE, None)):
        assert repr(subject) == f"<{type(subject).__name__}>"
        with pytest.raises(TypeError, match="secrets"):
            pickle.dumps(subject)
        with pytest.raises(TypeError):
            vars(subject)
