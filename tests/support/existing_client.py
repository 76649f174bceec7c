"""Another client of the wire format, in plain Python: makes keys, saves contexts, encrypts vectors and texts.

It shares no code with the SDK, so that each proves the other; the fixtures in `vectors/existing-client` come from a
published client and prove both.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from math import lcm
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from gmpy2 import is_prime

FIXTURES = Path(__file__).parents[1] / "vectors" / "existing-client"
PASSPHRASE = "correct horse battery staple"
SALT = b"any salt that the other client takes"


def fixture(scheme: str) -> dict[str, Any]:
    """What a published client wrote."""
    written: dict[str, Any] = json.loads((FIXTURES / f"{scheme}.json").read_text())
    return written


class ExistingClientKey:
    """A key of the scheme `paillier`, or of `paillier_lookup` with noise groups of `order_bits` bits each."""

    def __init__(self, key_len: int, embed_len: int, order_bits: int | None = None, smallest: bool = False) -> None:
        """`smallest` takes primes so small that one prime cannot read vectors that two can."""
        self.key_len, self.embed_len, self.order_bits = key_len, embed_len, order_bits
        if order_bits is None:
            p, q = _prime(key_len, 1, smallest), _prime(key_len, 1, smallest)
            self.n, self.phi = p * q, (p - 1) * (q - 1)
            self.g = 1 + self.n
        else:
            u_p, u_q = _random_prime(order_bits), _random_prime(order_bits)
            p, q = _prime(key_len, u_p, smallest), _prime(key_len, u_q, smallest)
            self.n, self.phi = p * q, (p - 1) * (q - 1)
            self.order = u_p * u_q
            x = secrets.randbelow(self.n**2)
            # An element whose order is n times the order of the noise group.
            self.g = pow(x, lcm(p - 1, q - 1) // self.order, self.n**2)
        self.primes = p, q

    def encrypt(self, vector: Sequence[int]) -> list[int]:
        n, square = self.n, self.n**2
        count = -(-self.embed_len // (self.key_len - 1))
        width = -(-self.embed_len // count)
        ciphertexts = []
        for start in range(0, self.embed_len, width):
            message = int("".join(f"0{int(bit)}" for bit in vector[start : start + width]), 2)
            if self.order_bits is None:
                noise = pow(1 + secrets.randbelow(n - 1), n, square)
            else:
                noise = pow(pow(self.g, n, square), secrets.randbelow(1 << (2 * self.order_bits)), square)
            ciphertexts.append(pow(self.g, message, square) * noise % square)
        return ciphertexts

    @property
    def secret_key(self) -> str:
        if self.order_bits is None:
            inverse = pow((pow(self.g, self.phi, self.n**2) - 1) // self.n, -1, self.n)
            return json.dumps({"phi": str(self.phi), "inv": str(inverse)})
        inverse = pow((pow(self.g, self.order, self.n**2) - 1) // self.n, -1, self.n)
        return json.dumps({"phi": self.phi, "a": self.order, "g_a_inv": inverse})

    def context(self, passphrase: str = PASSPHRASE, salt: bytes = SALT) -> dict[str, str]:
        """What the client saves."""
        n, square = self.n, self.n**2
        if self.order_bits is None:
            pk: dict[str, Any] = {"g": str(self.g), "n": str(n), "n_squared": str(square)}
            config = {"embed_len": self.embed_len, "key_len": self.key_len}
            type_ = "PaillierClient"
        else:
            pk = {"g": self.g, "n": n, "n_squared": square, "g_n": pow(self.g, n, square)}
            config = {
                "message_chunks": self.key_len // 4,
                "alpha_len": 2 * self.order_bits,
                "embed_len": self.embed_len,
                "key_len": self.key_len,
            }
            type_ = "PaillierLookupClient"
        return {
            "sk": encrypt_content(content_key(passphrase, salt), self.secret_key),
            "pk": json.dumps(pk),
            "type": type_,
            "config": json.dumps(config),
            "key_provider": "passphrase",
            "wrapped_key": base64.b64encode(salt).decode(),
        }

    def context_id(self, context: dict[str, str]) -> str:
        parts = {"sk": self.secret_key, "pk": context["pk"], "type": context["type"], "config": context["config"]}
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def chunk(self, vector: Sequence[int], text: str, **fields: Any) -> dict[str, Any]:
        """A chunk as the client inserts it, encrypted under the context of the default passphrase."""
        integers = self.encrypt(vector)
        index = [base64.b64encode(c.to_bytes((c.bit_length() + 7) // 8, "little")).decode() for c in integers]
        content = encrypt_content(content_key(PASSPHRASE, SALT), text)
        return {"chunk_content": content, "index": index, "meta_data": {}, **fields}


def content_key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << 14, r=8, p=1).derive(passphrase.encode())


def encrypt_content(key: bytes, text: str) -> str:
    iv = secrets.token_bytes(16)
    sealed = AESGCM(key).encrypt(iv, text.encode(), None)
    return base64.b64encode(iv + sealed[-16:] + sealed[:-16]).decode()


def _random_prime(bits: int) -> int:
    while True:
        candidate = 1 << (bits - 1) | secrets.randbits(bits - 1) | 1
        if is_prime(candidate):
            return candidate


def _prime(bits: int, divisor: int, smallest: bool) -> int:
    """A random prime of so many bits, p − 1 divisible; `smallest` takes one below 1.25 · 2^(bits − 1)."""
    floor = 1 << (bits - 1)
    while True:
        start = floor + secrets.randbelow(floor // 4 if smallest else floor)
        candidate = start // (2 * divisor) * 2 * divisor + 1
        if candidate >= floor and is_prime(candidate):
            return candidate
