"""The cryptography a second time: slow, obvious, and sharing no code with the product.

Plain integers and `pow`, bits as lists, one AES block at a time. It follows docs/formats.md and the textbook (Paillier,
EUROCRYPT 1999; NIST SP 800-38D; RFC 5869), not the product's sources. The known-answer vectors are made with it
(vectors/make_crypto_vectors.py), and the product is checked against both.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, lcm
from typing import Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Base = Literal["base4", "base3"]


# Encodings


def number_of(bits: list[int], digit_base: int) -> int:
    """The bits as digits of a number, the first one the most significant."""
    number = 0
    for bit in bits:
        number = number * digit_base + bit
    return number


def digits_of(number: int, digit_base: int) -> list[int]:
    """The digits of a number, the least significant first."""
    digits = []
    while number:
        number, digit = divmod(number, digit_base)
        digits.append(digit)
    return digits


def base_for(dimensions: int, key_len: int) -> Base:
    """Base 3 where base 4 needs two ciphertexts and the smallest modulus of that key length holds all of 3^d."""
    smallest_n = (3 * 2 ** (key_len - 2)) ** 2
    return "base3" if dimensions >= key_len and 3**dimensions <= smallest_n else "base4"


def parts(bits: list[int], key_len: int, base: Base) -> list[list[int]]:
    """The positions that each ciphertext holds."""
    if base == "base3":
        return [bits]
    count = -(-len(bits) // (key_len - 1))
    widest = -(-len(bits) // count)
    split = [bits[t * widest : (t + 1) * widest] for t in range(count)]
    assert all(split)
    return split


def messages(bits: list[int], key_len: int, base: Base) -> list[int]:
    """The plaintext of each ciphertext of a vector."""
    return [number_of(part, 3 if base == "base3" else 4) for part in parts(bits, key_len, base)]


def is_sum_of_two(total: int, width: int, base: Base) -> bool:
    """Whether two vectors of that width can have this sum."""
    digits = digits_of(total, 3 if base == "base3" else 4)
    return len(digits) <= width and all(digit <= 2 for digit in digits)


def distance(totals: list[int], base: Base) -> int:
    """The Hamming distance that the sums show: the number of positions where exactly one of the two is set."""
    return sum(digits_of(total, 3 if base == "base3" else 4).count(1) for total in totals)


# Nonces and noise


def aes_block(key: bytes, block: bytes) -> bytes:
    """AES of one block."""
    assert len(block) == 16
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 (one block: AES itself)
    return encryptor.update(block) + encryptor.finalize()


def packed(bits: list[int], key_len: int, base: Base) -> bytes:
    """The bits of each ciphertext as digits of a number to base 2, little-endian in whole bytes."""
    data = b""
    for part in parts(bits, key_len, base):
        data += number_of(part, 2).to_bytes(-(-len(part) // 8), "little")
    return data


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC as RFC 4493, section 2.4, writes it."""
    subkeys = [int.from_bytes(aes_block(key, bytes(16)), "big")]
    for _ in range(2):
        shifted = subkeys[-1] << 1
        subkeys.append(shifted ^ (1 << 128 | 0x87) if shifted >> 128 else shifted)
    blocks = [message[i : i + 16] for i in range(0, len(message), 16)] or [b""]
    if len(blocks[-1]) == 16:
        last = int.from_bytes(blocks[-1], "big") ^ subkeys[1]
    else:
        last = int.from_bytes((blocks[-1] + b"\x80").ljust(16, b"\0"), "big") ^ subkeys[2]
    state = 0
    for block in [*(int.from_bytes(block, "big") for block in blocks[:-1]), last]:
        state = int.from_bytes(aes_block(key, (state ^ block).to_bytes(16, "big")), "big")
    return state.to_bytes(16, "big")


def nonce_of(nonce_key: bytes, randomness: bytes, packed_bits: bytes) -> bytes:
    """r, and the 14 bytes that authenticate the vector and that its noise follows from."""
    assert len(randomness) == 16
    return randomness + cmac(nonce_key, randomness + packed_bits)[:14]


def drawn(key: bytes, fresh: bytes, purpose: str, used_with: list[bytes], size: int) -> bytes:
    """Hedged randomness."""
    message = len(purpose).to_bytes(8, "big") + purpose.encode() + fresh
    for part in used_with:
        message += len(part).to_bytes(8, "big") + part
    data, counter = b"", 1
    while len(data) < size:
        data += hmac.new(key, bytes([counter]) + message, hashlib.sha256).digest()
        counter += 1
    return data[:size]


def content_key(key: bytes, nonce: bytes) -> bytes:
    """The key of one content."""
    return hmac.new(key, b"xtrace/content-key/2" + nonce, hashlib.sha256).digest()


def counters(ciphertext: int, order_bits: int) -> tuple[list[int], list[int]]:
    """The block counters of one ciphertext, for the first prime and for the second."""
    b = -(-(order_bits + 128) // 128)
    first = 2 * b * ciphertext
    return list(range(first, first + b)), list(range(first + b, first + 2 * b))


def integer_at(noise_key: bytes, nonce: bytes, counters_: list[int]) -> int:
    """The blocks at these counters, one after the other, as one big-endian integer."""
    data = b""
    for j in counters_:
        data += aes_block(noise_key, nonce[16:] + j.to_bytes(2, "big"))
    return int.from_bytes(data, "big")


# The two schemes


def crt(residue: int, modulus: int, other: int, coprime: int) -> int:
    """The number below modulus·coprime that leaves these two residues."""
    x = residue * coprime * pow(coprime, -1, modulus) + other * modulus * pow(modulus, -1, coprime)
    return x % (modulus * coprime)


@dataclass(frozen=True)
class Key:
    """What both schemes share; decryption is the textbook's, from the factors alone."""

    p: int
    q: int
    noise_key: bytes

    @property
    def n(self) -> int:
        return self.p * self.q

    def decrypt(self, ciphertext: int) -> int:
        """L(c^λ mod n²) / L(g^λ mod n²) mod n with g = 1 + n and L(x) = (x − 1)/n."""
        n = self.n
        exponent = lcm(self.p - 1, self.q - 1)
        above = (pow(ciphertext, exponent, n * n) - 1) // n
        below = (pow(1 + n, exponent, n * n) - 1) // n
        return above * pow(below, -1, n) % n


@dataclass(frozen=True)
class PaillierKey(Key):
    """`paillier`: noise is r^n."""

    def noise(self, nonce: bytes, ciphertext: int) -> tuple[int, int]:
        """(s modulo p, s modulo q)."""
        for_p, for_q = counters(ciphertext, self.p.bit_length())
        s_p = integer_at(self.noise_key, nonce, for_p) % (self.p - 1) + 1
        return s_p, integer_at(self.noise_key, nonce, for_q) % (self.q - 1) + 1

    def root(self, noise: tuple[int, int]) -> int:
        """The r whose n-th power is the noise: r^n = (r^q)^p = s^p modulo p², so r = s^(1/q) modulo p; likewise q."""
        r_p = pow(noise[0], pow(self.q, -1, self.p - 1), self.p)
        r_q = pow(noise[1], pow(self.p, -1, self.q - 1), self.q)
        return crt(r_p, self.p, r_q, self.q)

    def encrypt(self, message: int, noise: tuple[int, int]) -> int:
        """g^m · r^n mod n², as printed in the paper."""
        n = self.n
        return pow(1 + n, message, n * n) * pow(self.root(noise), n, n * n) % (n * n)


@dataclass(frozen=True)
class LookupKey(Key):
    """`paillier_lookup`: noise is h_p^a modulo p², h_q^b modulo q²."""

    u_p: int
    u_q: int
    h_p: int
    h_q: int

    def noise(self, nonce: bytes, ciphertext: int) -> tuple[int, int]:
        """(a, b)."""
        for_p, for_q = counters(ciphertext, self.u_p.bit_length())
        a = integer_at(self.noise_key, nonce, for_p) % self.u_p
        return a, integer_at(self.noise_key, nonce, for_q) % self.u_q

    def encrypt(self, message: int, noise: tuple[int, int]) -> int:
        """g^m · y mod n², y the number that is h_p^a modulo p² and h_q^b modulo q²."""
        n, square_p, square_q = self.n, self.p**2, self.q**2
        y = crt(pow(self.h_p, noise[0], square_p), square_p, pow(self.h_q, noise[1], square_q), square_q)
        return pow(1 + n, message, n * n) * y % (n * n)


AnyKey = PaillierKey | LookupKey


def encrypt_vector(key: AnyKey, bits: list[int], nonce: bytes, key_len: int, base: Base) -> list[int]:
    """The ciphertexts of a vector with the noise of that nonce."""
    plain = messages(bits, key_len, base)
    return [key.encrypt(message, key.noise(nonce, t)) for t, message in enumerate(plain)]


# Primes


def is_prime(candidate: int) -> bool:
    """Miller and Rabin with the first forty primes as bases."""
    small = [p for p in range(2, 174) if all(p % d for d in range(2, p))]
    if candidate < 174:
        return candidate in small
    if any(candidate % p == 0 for p in small):
        return False
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(candidate, base, odd, twos) for base in small)


def _passes(candidate: int, base: int, odd: int, twos: int) -> bool:
    x = pow(base, odd, candidate)
    if x in (1, candidate - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % candidate
        if x == candidate - 1:
            return True
    return False


def multiplicative_order_is(element: int, order: int, modulus: int) -> bool:
    """Whether an element has exactly this order, which is prime."""
    return (
        is_prime(order) and gcd(element, modulus) == 1 and element % modulus != 1 and pow(element, order, modulus) == 1
    )


# AES-GCM (NIST SP 800-38D)


def _times(x: int, y: int) -> int:
    """The product in GF(2^128); the coefficient of x^0 is the most significant bit (section 6.3)."""
    product = 0
    for i in range(127, -1, -1):
        if y >> i & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def _ghash(h: int, data: bytes) -> int:
    y = 0
    for i in range(0, len(data), 16):
        y = _times(y ^ int.from_bytes(data[i : i + 16], "big"), h)
    return y


def _whole_blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _keystream(key: bytes, block: bytes) -> Iterator[int]:
    while True:
        block = block[:12] + ((int.from_bytes(block[12:], "big") + 1) % 2**32).to_bytes(4, "big")
        yield from aes_block(key, block)


def gcm(key: bytes, iv: bytes, plaintext: bytes, associated_data: bytes) -> tuple[bytes, bytes]:
    """`(ciphertext, tag)` for an IV of any length but 12 bytes, which the standard hashes first."""
    assert len(iv) != 12
    h = int.from_bytes(aes_block(key, bytes(16)), "big")
    lengths = bytes(8) + (8 * len(iv)).to_bytes(8, "big")
    first = _ghash(h, _whole_blocks(iv) + lengths).to_bytes(16, "big")
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, _keystream(key, first), strict=False))
    lengths = (8 * len(associated_data)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    s = _ghash(h, _whole_blocks(associated_data) + _whole_blocks(ciphertext) + lengths)
    tag = s ^ int.from_bytes(aes_block(key, first), "big")
    return ciphertext, tag.to_bytes(16, "big")


def sealed(key: bytes, iv: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """`IV ‖ tag ‖ ciphertext`."""
    ciphertext, tag = gcm(key, iv, plaintext, associated_data)
    return iv + tag + ciphertext


# Keys from keys


def hkdf(key: bytes, label: bytes, length: int) -> bytes:
    """HKDF-SHA-256 without salt, at most one block long (RFC 5869)."""
    assert length <= 32
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, label + b"\x01", hashlib.sha256).digest()[:length]


def sealed_secret(
    context_key: bytes, iv: bytes, secret: bytes, associated_data: bytes, slots: list[tuple[bytes, bytes]]
) -> bytes:
    """A context's secret as it is stored, before base64; a slot is the key that opens it, and the IV of it."""
    header = b"XTS1" + bytes([len(slots)])
    for number, (key, slot_iv) in enumerate(slots):
        header += hkdf(key, b"xtrace/key-check/1", 16)
        bound_to = b"xtrace/slot/1" + bytes([number]) + associated_data
        header += sealed(hkdf(key, b"xtrace/slot/1", 32), slot_iv, context_key, bound_to)
    return header + sealed(context_key, iv, secret, associated_data + header)


def passphrase_key(passphrase: str, wrapped_key: bytes) -> bytes:
    """The key of a passphrase, by OpenSSL's scrypt."""
    assert wrapped_key[:15] == b"xtrace-scrypt-1"
    log2_n, r, p = wrapped_key[15:18]
    memory = 2**30
    return hashlib.scrypt(passphrase.encode(), salt=wrapped_key[18:], n=2**log2_n, r=r, p=p, maxmem=memory, dklen=32)
