"""Makes lattice.json: the keys, nonces and records of the scheme `lattice`, by docs/formats.md alone.

Shares no code with the product: HMAC from the standard library, AES-SIV from `cryptography`, bits by shifting integers.
`python make_lattice_vectors.py` writes the file. The cases `design` are records of the reference implementation with
which the scheme was designed, computed again; it identifies its context by a text.
"""

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

ROOT = bytes(range(32))
DIMENSIONS = (1, 3, 8, 127, 128, 129, 384, 512, 1000, 4096)
DESIGN_ID = b"collection-00001"
DESIGN_RECORDS = {
    8: "67222ebcee0003dda0aad7a05e791695",
    512: "bd20301a439db4e8e79a3f8ddb0b55a1",
    1000: "1ea79436fed90a685a92b9aca8439ed0",
}
"""The first half of the SHA-256 of each record of the design, by the dimensions."""


def prf(key: bytes, label: str, *parts: bytes) -> bytes:
    message = b"".join(struct.pack("<I", len(part)) + part for part in (label.encode(), *parts))
    return hmac.new(key, message, hashlib.sha256).digest()


def packed(vector: str) -> bytes:
    """The vector, digits 0 and 1, with its first position in the lowest bit."""
    value = sum(1 << i for i, digit in enumerate(vector) if digit == "1")
    return value.to_bytes(-(-len(vector) // 8), "little")


def record_keys(root: bytes, context_id: bytes, embed_len: int) -> tuple[bytes, bytes]:
    key = prf(root, "sealed-1", context_id, struct.pack("<H", embed_len))
    return prf(key, "mac"), prf(key, "ctr")


def record(root: bytes, context_id: bytes, nonce: bytes, vector: str) -> bytes:
    bits = packed(vector)
    plaintext = bits.ljust(-(-len(bits) // 16) * 16, b"\0")
    return AESSIV(b"".join(record_keys(root, context_id, len(vector)))).encrypt(plaintext, [context_id + nonce])


def case(embed_len: int) -> dict[str, Any]:
    root = prf(ROOT, "root", embed_len.to_bytes(2, "little"))
    context_id = prf(root, "public")[:16]
    digits = "".join(f"{byte:08b}" for byte in hashlib.shake_256(root).digest(512))[:embed_len]
    random = prf(root, "random")[:16]
    vector_key = prf(root, "lattice-1", context_id, struct.pack("<H", embed_len))
    nonce = prf(vector_key, "chunk", random, packed(digits))[:16]
    return {
        "root": root.hex(),
        "pk": json.dumps(
            {"embed_len": embed_len, "id": context_id.hex(), "parameters": "lattice-1"}, separators=(",", ":")
        ),
        "hedging_key": prf(root, "hedge").hex(),
        "record_keys": [key.hex() for key in record_keys(root, context_id, embed_len)],
        "random": random.hex(),
        "vector": digits,
        "nonce": nonce.hex(),
        "record": record(root, context_id, nonce, digits).hex(),
    }


def design_case(embed_len: int) -> dict[str, Any]:
    """A record of the design's known answers: its vector and nonce are AES-CTR keystream."""
    seed = prf(prf(bytes(32), "test", b"a", b""), "rows")
    keystream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor().update(bytes(528))
    vector = "".join(f"{byte:08b}"[::-1] for byte in keystream[:512])[:embed_len]
    sealed = record(ROOT, DESIGN_ID, keystream[512:], vector)
    assert hashlib.sha256(sealed).hexdigest().startswith(DESIGN_RECORDS[embed_len])
    return {"id": DESIGN_ID.hex(), "vector": vector, "nonce": keystream[512:].hex(), "record": sealed.hex()}


def main() -> None:
    cases = [case(embed_len) for embed_len in DIMENSIONS]
    document = {
        "prf": prf(bytes(32), "test", b"a", b"").hex(),
        "cases": cases,
        "design": [design_case(one) for one in DESIGN_RECORDS],
    }
    path = Path(__file__).with_name("lattice.json")
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
