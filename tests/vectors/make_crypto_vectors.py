"""Writes crypto.json beside this file: known answers for everything that the client computes from keys and randomness.

    python tests/vectors/make_crypto_vectors.py

Every value comes from tests/support/reference_paillier.py; the product has no part in it. Keys, nonces and vectors are
drawn from SHA-256 in counter mode with the label below, so that running it again writes the same bytes. The keys are
public and the short ones are toys: none of them protects anything.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import reference_paillier as reference

TARGET = Path(__file__).with_name("crypto.json")


class Stream:
    """Deterministic bytes for one label."""

    def __init__(self, label: str) -> None:
        self._label, self._count = label, 0

    def bytes(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += hashlib.sha256(f"xtrace test vectors 1/{self._label}/{self._count}".encode()).digest()
            self._count += 1
        return data[:length]

    def below(self, bound: int) -> int:
        return int.from_bytes(self.bytes((bound.bit_length() + 7) // 8 + 16), "big") % bound

    def bits(self, length: int) -> list[int]:
        return [byte & 1 for byte in self.bytes(length)]

    def prime(self, bits: int, order: int = 1) -> int:
        """A prime of that length, its two top bits set, that is 1 modulo 2·order."""
        lowest = 3 * (1 << (bits - 2)) // (2 * order) + 1
        highest = ((1 << bits) - 2) // (2 * order)
        while True:
            candidate = 2 * order * (lowest + self.below(highest - lowest + 1)) + 1
            if reference.is_prime(candidate):
                return candidate


def hex_of(number: int) -> str:
    return f"{number:x}"


def text(bits: list[int]) -> str:
    return "".join(map(str, bits))


def lookup_key(stream: Stream, key_len: int, alpha_len: int) -> reference.LookupKey:
    orders, primes, generators = [], [], []
    for _ in range(2):
        order = stream.prime(alpha_len // 2)
        prime = stream.prime(key_len, order)
        x = stream.below(prime * prime)
        orders.append(order)
        primes.append(prime)
        generators.append(pow(x, prime * (prime - 1) // order, prime * prime))
    (p, q), (u_p, u_q), (h_p, h_q) = primes, orders, generators
    return reference.LookupKey(p, q, stream.bytes(32), u_p, u_q, h_p, h_q)


def vector_case(scheme: str, key_len: int, dimensions: int, alpha_len: int = 0) -> dict[str, Any]:
    name = f"{scheme}, key_len {key_len}, {dimensions} dimensions"
    stream = Stream(name)
    key: reference.AnyKey
    if scheme == "paillier":
        key = reference.PaillierKey(stream.prime(key_len), stream.prime(key_len), stream.bytes(32))
        order_bits = key_len
        secret = {"p": hex_of(key.p), "q": hex_of(key.q)}
    else:
        key = lookup_key(stream, key_len, alpha_len)
        order_bits = alpha_len // 2
        secret = {field: hex_of(getattr(key, field)) for field in ("p", "q", "u_p", "u_q", "h_p", "h_q")}
    base = reference.base_for(dimensions, key_len)
    nonce_key, randomness = stream.bytes(32), stream.bytes(16)
    vector, query = stream.bits(dimensions), stream.bits(dimensions)
    nonce = reference.nonce_of(nonce_key, randomness, reference.packed(vector, key_len, base))
    index = reference.encrypt_vector(key, vector, nonce, key_len, base)
    bounds = (key.u_p, key.u_q) if isinstance(key, reference.LookupKey) else (key.p - 1, key.q - 1)
    first = 0 if isinstance(key, reference.LookupKey) else 1
    query_noise = [(stream.below(bounds[0]) + first, stream.below(bounds[1]) + first) for _ in index]
    plain_query = reference.messages(query, key_len, base)
    encrypted_query = [key.encrypt(m, noise) for m, noise in zip(plain_query, query_noise, strict=True)]
    products = [c * d % key.n**2 for c, d in zip(index, encrypted_query, strict=True)]
    sums = [key.decrypt(product) for product in products]
    counts = [reference.counters(t, order_bits) for t in range(len(index))]
    return {
        "name": name,
        "scheme": scheme,
        "config": {"embed_len": dimensions, "key_len": key_len, "encoding": base}
        | ({"alpha_len": alpha_len} if alpha_len else {}),
        "secrets": secret
        | {"noise_key": key.noise_key.hex(), "nonce_key": nonce_key.hex(), "hedging_key": stream.bytes(32).hex()},
        "vector": text(vector),
        "packed": reference.packed(vector, key_len, base).hex(),
        "randomness": randomness.hex(),
        "nonce": nonce.hex(),
        "ciphertexts": [
            {
                "message": hex_of(message),
                "counters": counts[t],
                "integers": [hex_of(reference.integer_at(key.noise_key, nonce, group)) for group in counts[t]],
                "noise": [hex_of(value) for value in key.noise(nonce, t)],
                "ciphertext": hex_of(index[t]),
            }
            for t, message in enumerate(reference.messages(vector, key_len, base))
        ],
        "query": text(query),
        "query_noise": [[hex_of(a), hex_of(b)] for a, b in query_noise],
        "query_ciphertexts": [hex_of(c) for c in encrypted_query],
        "products": [hex_of(c) for c in products],
        "sums": [hex_of(total) for total in sums],
        "distance": sum(a != b for a, b in zip(vector, query, strict=True)),
    }


def content_cases() -> list[dict[str, Any]]:
    cases = []
    for name, content, with_nonce in (
        ("empty", "", True),
        ("one block", "sixteen letters.", True),
        ("text beyond ASCII", "Größe: 3 µm — naïve café, 東京, 🗝", True),
        ("several blocks and a part of one", "the quick brown fox jumps over the lazy dog; " * 5, True),
        ("without a nonce", "content of no vector", False),
    ):
        stream = Stream(f"content {name}")
        key, iv, nonce = stream.bytes(32), stream.bytes(16), stream.bytes(30) if with_nonce else b""
        associated_data = b"xtrace/content/2" + nonce
        own_key = reference.content_key(key, nonce)
        stored = reference.sealed(own_key, iv, content.encode(), associated_data)
        cases.append(
            {
                "name": name,
                "key": key.hex(),
                "own_key": own_key.hex(),
                "iv": iv.hex(),
                "nonce": nonce.hex() if with_nonce else None,
                "associated_data": associated_data.hex(),
                "content": content,
                "stored": base64.b64encode(stored).decode(),
            }
        )
    return cases


def randomness_cases() -> list[dict[str, Any]]:
    cases = []
    for purpose, parts, size in (
        ("nonce", [b"\x05\x01"], 16),
        ("iv", [b"", b"xtrace/content/2", "Größe".encode()], 16),
        ("query noise", [b"\xff" * 64, b"\0", b"\1"], 144),
        ("nothing to hedge with", [], 32),
    ):
        stream = Stream(f"randomness {purpose}")
        key, fresh = stream.bytes(32), stream.bytes(32)
        cases.append(
            {
                "name": purpose,
                "key": key.hex(),
                "fresh": fresh.hex(),
                "parts": [part.hex() for part in parts],
                "drawn": reference.drawn(key, fresh, purpose, parts, size).hex(),
            }
        )
    return cases


def passphrase_cases() -> list[dict[str, Any]]:
    cases = []
    for passphrase, log2_n, r, p in (
        ("correct horse battery staple", 17, 8, 1),
        ("naïve Größe 東京", 10, 8, 1),
        ("x", 12, 4, 3),
    ):
        salt = Stream(f"passphrase {passphrase}").bytes(16)
        wrapped_key = b"xtrace-scrypt-1" + bytes([log2_n, r, p]) + salt
        key = reference.passphrase_key(passphrase, wrapped_key)
        cases.append({"passphrase": passphrase, "wrapped_key": wrapped_key.hex(), "key": key.hex()})
    return cases


def secret_cases() -> list[dict[str, Any]]:
    cases = []
    for name, secret, associated_data, count in (
        ("a small object", b'{"p":"b"}', b"xtrace/context/1" + bytes(range(32)), 1),
        ("with a recovery key", b'{"p":"b"}', b"xtrace/context/1" + bytes(range(32)), 2),
        ("empty, bound to nothing", b"", b"", 1),
    ):
        stream = Stream(f"secret {name}")
        key, iv = stream.bytes(32), stream.bytes(16)
        slots = [(stream.bytes(32), stream.bytes(16)) for _ in range(count)]
        stored = reference.sealed_secret(key, iv, secret, associated_data, slots)
        cases.append(
            {
                "name": name,
                "context_key": key.hex(),
                "iv": iv.hex(),
                "slots": [
                    {
                        "key": slot_key.hex(),
                        "iv": slot_iv.hex(),
                        "key_check": reference.hkdf(slot_key, b"xtrace/key-check/1", 16).hex(),
                        "slot_key": reference.hkdf(slot_key, b"xtrace/slot/1", 32).hex(),
                    }
                    for slot_key, slot_iv in slots
                ],
                "secret": secret.decode(),
                "associated_data": associated_data.hex(),
                "stored": base64.b64encode(stored).decode(),
            }
        )
    return cases


def main() -> None:
    vectors = {
        "about": [
            "Known answers for the cryptography of docs/formats.md. Integers, keys and byte strings are hexadecimal",
            "(integers most significant digit first); vectors are texts of 0 and 1, position 0 first.",
            "A vector's nonce is randomness ‖ t, with t = AES-CMAC(nonce_key, randomness ‖ packed) cut to 14 bytes.",
            "'counters' are the AES block counters of each ciphertext for p and q, 'integers' those blocks as one",
            "number, 'noise' that number reduced: exponents a, b (paillier_lookup), or s modulo p and q (paillier).",
            "'products' are what the service answers for the query, 'sums' what they decrypt to.",
        ],
        "origin": "made by make_crypto_vectors.py from reference_paillier.py, an implementation of its own",
        "warning": "the keys are public, and those of key_len 256 are far too short for any use but this",
        "vectors": [
            vector_case("paillier", 256, 600),
            vector_case("paillier", 256, 300),
            vector_case("paillier", 1024, 1025),
            vector_case("paillier_lookup", 256, 6, 448),
            vector_case("paillier_lookup", 256, 600, 448),
            vector_case("paillier_lookup", 256, 300, 450),
            vector_case("paillier_lookup", 1024, 512, 512),
            vector_case("paillier_lookup", 1024, 1291, 512),
            vector_case("paillier_lookup", 1024, 2500, 512),
        ],
        "randomness": randomness_cases(),
        "content": content_cases(),
        "passphrases": passphrase_cases(),
        "sealed_secrets": secret_cases(),
    }
    TARGET.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
