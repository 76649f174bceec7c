"""The product, and the reference implementation, against tests/vectors/crypto.json.

Randomness enters the product at one seam each time, so nothing is patched: the pure functions below that seam are
called with the vectors' own randomness.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import reference_paillier as reference
from support.crypto_support import CLIENTS, SCHEMES, Client, Vectors, answers, number, reference_key
from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.chunks import cipher as content
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.keys import aead, sealed_secret
from xtrace_sdk.x_vec.keys.cmac import Cmac
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.schemes.paillier.noise import NoiseKeys

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "crypto.json").read_text("utf-8"))


HEDGE = Hedge(bytes(32))


def named(group: str) -> pytest.MarkDecorator:
    cases = VECTORS[group]
    return pytest.mark.parametrize("case", cases, ids=[case.get("name", str(i)) for i, case in enumerate(cases)])


def bits_of(text: str) -> Vectors:
    return np.array([[int(bit) for bit in text]], dtype=np.uint8)


def nonce_rows(case: dict[str, Any]) -> Rows:
    return np.frombuffer(bytes.fromhex(case["nonce"]), dtype=np.uint8).reshape(1, 30)


def client_of(case: dict[str, Any]) -> Client:
    return CLIENTS[case["scheme"]].load(case["config"], case["secrets"])


@named("vectors")
class TestVectors:
    def test_nonce_follows_from_key_randomness_and_vector(self, case: dict[str, Any]) -> None:
        keys = NoiseKeys.from_secrets(case["secrets"])
        packed = client_of(case)._encoding.pack(bits_of(case["vector"]))
        assert packed.tobytes().hex() == case["packed"]
        randomness = np.frombuffer(bytes.fromhex(case["randomness"]), dtype=np.uint8).reshape(1, 16)
        assert keys._nonces_from(randomness, packed).tobytes().hex() == case["nonce"]

    def test_integers_are_the_blocks_at_the_listed_counters(self, case: dict[str, Any]) -> None:
        keys = NoiseKeys.from_secrets(case["secrets"])
        alpha_len = case["config"].get("alpha_len")
        bits = alpha_len // 2 if alpha_len else case["config"]["key_len"]
        got = keys.integers(nonce_rows(case), len(case["ciphertexts"]), bits)
        for (for_p, for_q), expected in zip(got, case["ciphertexts"], strict=True):
            assert [f"{number(for_p[0].tobytes()):x}", f"{number(for_q[0].tobytes()):x}"] == expected["integers"]

    def test_counters_run_on_without_gap_from_one_ciphertext_to_the_next(self, case: dict[str, Any]) -> None:
        used = [j for part in case["ciphertexts"] for group in part["counters"] for j in group]
        assert used == list(range(len(used)))

    def test_integers_reduce_to_the_noise(self, case: dict[str, Any]) -> None:
        client = client_of(case)
        for (for_p, for_q), expected in zip(client._noise_of(nonce_rows(case)), case["ciphertexts"], strict=True):
            assert [f"{number(for_p[0].tobytes()):x}", f"{number(for_q[0].tobytes()):x}"] == expected["noise"]

    def test_vector_is_encrypted_to_the_ciphertexts(self, case: dict[str, Any]) -> None:
        client = client_of(case)
        messages = client._encoding.encode(bits_of(case["vector"]))
        assert [f"{number(rows.tobytes()):x}" for rows in messages] == [c["message"] for c in case["ciphertexts"]]
        index = client._encrypt_with_nonces(bits_of(case["vector"]), nonce_rows(case))[0]
        assert [f"{ciphertext:x}" for ciphertext in index] == [c["ciphertext"] for c in case["ciphertexts"]]
        assert index.nonce.hex() == case["nonce"]

    def test_query_is_encrypted_to_the_ciphertexts(self, case: dict[str, Any]) -> None:
        noise = [(int(a, 16), int(b, 16)) for a, b in case["query_noise"]]
        query = client_of(case)._encrypt_query_with_noise(bits_of(case["query"]), noise)
        assert [f"{number(ciphertext):x}" for ciphertext in query.ciphertexts] == case["query_ciphertexts"]

    def test_answer_reads_as_the_distance(self, case: dict[str, Any]) -> None:
        client = client_of(case)
        noise = [(int(a, 16), int(b, 16)) for a, b in case["query_noise"]]
        query = client._encrypt_query_with_noise(bits_of(case["query"]), noise)
        batch = client._encrypt_with_nonces(bits_of(case["vector"]), nonce_rows(case))
        rows = answers(client, batch, query)
        assert [f"{number(ciphertext):x}" for ciphertext in rows[0]] == case["products"]
        assert client.decode_hamming_client_one(rows[0], bytes.fromhex(case["nonce"]), query) == case["distance"]
        confirmed, valid = client.confirm_distances(rows, [bytes.fromhex(case["nonce"])], query)
        assert (confirmed.tolist(), valid.tolist()) == ([case["distance"]], [True])

    def test_reference_decrypts_the_products_in_the_general_way(self, case: dict[str, Any]) -> None:
        key = reference_key(client_of(case))
        sums = [key.decrypt(int(product, 16)) for product in case["products"]]
        assert [f"{total:x}" for total in sums] == case["sums"]
        assert reference.distance(sums, case["config"]["encoding"]) == case["distance"]

    def test_reference_encrypts_to_the_ciphertexts(self, case: dict[str, Any]) -> None:
        key, config = reference_key(client_of(case)), case["config"]
        bits, nonce = [int(bit) for bit in case["vector"]], bytes.fromhex(case["nonce"])
        got = reference.encrypt_vector(key, bits, nonce, config["key_len"], config["encoding"])
        assert [f"{ciphertext:x}" for ciphertext in got] == [c["ciphertext"] for c in case["ciphertexts"]]

    def test_client_saves_what_it_was_loaded_from(self, case: dict[str, Any]) -> None:
        client = client_of(case)
        assert client.config() == case["config"]
        assert client.secrets() == case["secrets"]


def test_vectors_cover_both_schemes_both_bases_and_three_ciphertexts() -> None:
    covered = {(c["scheme"], c["config"]["encoding"]) for c in VECTORS["vectors"]}
    assert covered == {(scheme, base) for scheme in SCHEMES for base in ("base4", "base3")}
    assert {c["scheme"] for c in VECTORS["vectors"] if len(c["ciphertexts"]) >= 3} == set(SCHEMES)


@named("content")
class TestContent:
    def test_seals_to_the_stored_bytes(self, case: dict[str, Any]) -> None:
        nonce = bytes.fromhex(case["nonce"]) if case["nonce"] is not None else None
        associated_data = content._associated_data(nonce)
        assert associated_data.hex() == case["associated_data"]
        key = ContentCipher(bytes.fromhex(case["key"]), HEDGE)._key_for(nonce)
        assert key.hex() == case["own_key"]
        iv = bytes.fromhex(case["iv"])
        sealed = aead._seal_with_iv(key, iv, case["content"].encode(), associated_data)
        assert base64.b64encode(sealed).decode() == case["stored"]

    def test_stored_bytes_decrypt(self, case: dict[str, Any]) -> None:
        nonce = bytes.fromhex(case["nonce"]) if case["nonce"] is not None else None
        assert ContentCipher(bytes.fromhex(case["key"]), HEDGE).decrypt(case["stored"], nonce) == case["content"]

    def test_reference_seals_to_the_stored_bytes(self, case: dict[str, Any]) -> None:
        key, iv, associated_data = (bytes.fromhex(case[name]) for name in ("own_key", "iv", "associated_data"))
        sealed = reference.sealed(key, iv, case["content"].encode(), associated_data)
        assert base64.b64encode(sealed).decode() == case["stored"]


@named("randomness")
class TestRandomness:
    def test_is_drawn_from_key_fresh_bytes_and_what_it_is_used_with(self, case: dict[str, Any]) -> None:
        hedge, fresh = Hedge(bytes.fromhex(case["key"])), bytes.fromhex(case["fresh"])
        parts, size = [bytes.fromhex(part) for part in case["parts"]], len(case["drawn"]) // 2
        assert hedge._draw_with(fresh, case["name"], parts, size).hex() == case["drawn"]
        if len(parts) == 1 and size <= 32:
            rows = np.frombuffer(parts[0], dtype=np.uint8).reshape(1, -1)
            assert hedge._draw_rows_with(fresh, case["name"], rows, size).tobytes().hex() == case["drawn"]

    def test_reference_draws_the_same(self, case: dict[str, Any]) -> None:
        key, fresh, *parts = (bytes.fromhex(value) for value in (case["key"], case["fresh"], *case["parts"]))
        assert reference.drawn(key, fresh, case["name"], parts, len(case["drawn"]) // 2).hex() == case["drawn"]


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (0, "028962f61b7bf89efc6b551f4667d983"),
        (16, "28a7023f452e8f82bd4bf28d8c37c35c"),
        (40, "aaf3d8f1de5640c232f5b169b9c911e6"),
        (64, "e1992190549f6ed5696a2c056c315410"),
    ],
)
def test_cmac_agrees_with_the_standard(length: int, code: str) -> None:
    # NIST SP 800-38B, appendix D.3 (AES-256).
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    message = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )[:length]
    assert reference.cmac(key, message).hex() == code
    if message:
        rows = np.frombuffer(message * 3, dtype=np.uint8).reshape(3, -1)
        assert [row.tobytes().hex() for row in Cmac(key).codes(rows)] == [code] * 3


def test_reference_gcm_agrees_with_the_standard() -> None:
    # Test cases 15 to 18 of McGrew and Viega, "The Galois/Counter Mode of Operation", share key and text; 18 is the
    # one with AES-256 and an IV that has to be hashed.
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    iv = bytes.fromhex(
        "9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728"
        "c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b"
    )
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    ciphertext, tag = reference.gcm(key, iv, plaintext, bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"))
    assert ciphertext.hex().startswith("5a8def2f0c9e53f1f75d7853659e2a20")
    assert tag.hex() == "a44a8266ee1c8eb0c8b5d4cf5ae9f19a"


def test_reference_hkdf_agrees_with_rfc_5869() -> None:
    # Appendix A.3: no salt, no info.
    derived = reference.hkdf(bytes.fromhex("0b" * 22), b"", 32)
    assert derived.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@named("passphrases")
def test_passphrase_and_wrapped_key_give_the_key(case: dict[str, Any]) -> None:
    wrapped_key = bytes.fromhex(case["wrapped_key"])
    assert PassphraseKeyProvider(case["passphrase"]).unwrap_key(wrapped_key).hex() == case["key"]
    assert reference.passphrase_key(case["passphrase"], wrapped_key).hex() == case["key"]


@named("sealed_secrets")
class TestSealedSecrets:
    def test_keys_derive_from_the_keys_of_the_slots(self, case: dict[str, Any]) -> None:
        for slot in case["slots"]:
            key = bytes.fromhex(slot["key"])
            assert sealed_secret._slot_key(key).hex() == slot["slot_key"]
            assert sealed_secret._key_check(key).hex() == slot["key_check"]

    def test_each_slot_opens_the_stored_secret(self, case: dict[str, Any]) -> None:
        associated_data = bytes.fromhex(case["associated_data"])
        for slot, entry in zip(sealed_secret.Slot, case["slots"], strict=False):
            key = bytes.fromhex(entry["key"])
            _, opened = sealed_secret.Envelope.open(slot, key, case["stored"], associated_data)
            assert opened.decode() == case["secret"]

    def test_reference_seals_to_the_stored_secret(self, case: dict[str, Any]) -> None:
        key, iv, associated_data = (bytes.fromhex(case[name]) for name in ("context_key", "iv", "associated_data"))
        slots = [(bytes.fromhex(slot["key"]), bytes.fromhex(slot["iv"])) for slot in case["slots"]]
        sealed = reference.sealed_secret(key, iv, case["secret"].encode(), associated_data, slots)
        assert base64.b64encode(sealed).decode() == case["stored"]
