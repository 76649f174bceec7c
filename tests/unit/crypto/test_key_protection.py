"""Passphrases, sealed secrets, and that objects with secrets neither show nor hand them out."""

import base64
import hashlib

import pytest

from support.crypto_support import client
from xtrace_sdk.errors import InvalidArgument, InvalidContext, WrongKey
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.sealed_secret import open_secret, seal_secret

PASSPHRASE = "correct horse battery staple"
MAGIC = b"xtrace-scrypt-1"


def wrapped(log2_n: int = 4, r: int = 8, p: int = 1, salt: bytes = bytes(16)) -> bytes:
    return MAGIC + bytes([log2_n, r, p]) + salt


def cheap(passphrase: str = PASSPHRASE) -> PassphraseKeyProvider:
    return PassphraseKeyProvider(passphrase, insecure_log2_n=4)


class TestPassphrase:
    def test_provider_is_a_key_provider(self) -> None:
        assert isinstance(cheap(), KeyProvider)

    def test_the_wrapped_key_gives_the_key_back(self) -> None:
        key, wrapped_key = cheap().new_key()
        assert len(key) == 32
        assert PassphraseKeyProvider(PASSPHRASE).unwrap_key(wrapped_key) == key

    def test_every_key_has_its_own_salt(self) -> None:
        made = [cheap().new_key() for _ in range(20)]
        assert len({key for key, _ in made}) == len({wrapped_key for _, wrapped_key in made}) == 20

    def test_another_passphrase_gives_another_key(self) -> None:
        key, wrapped_key = cheap().new_key()
        for other in (PASSPHRASE + " ", PASSPHRASE.upper(), "x"):
            assert cheap(other).unwrap_key(wrapped_key) != key

    def test_new_keys_cost_what_the_format_says(self) -> None:
        _, wrapped_key = PassphraseKeyProvider(PASSPHRASE).new_key()
        assert (wrapped_key[:15], tuple(wrapped_key[15:18]), len(wrapped_key)) == (MAGIC, (17, 8, 1), 34)

    def test_the_two_ways_to_write_an_accent_are_one_passphrase(self) -> None:
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        assert cheap(composed).unwrap_key(wrapped()) == cheap(decomposed).unwrap_key(wrapped())
        expected = hashlib.scrypt(composed.encode(), salt=bytes(16), n=16, r=8, p=1, dklen=32)
        assert cheap(decomposed).unwrap_key(wrapped()) == expected

    def test_other_clients_take_the_passphrase_as_it_was_typed(self) -> None:
        for typed in ("caf\u00e9", "cafe\u0301"):
            expected = hashlib.scrypt(typed.encode(), salt=b"salt", n=1 << 14, r=8, p=1, dklen=32, maxmem=1 << 26)
            assert cheap(typed).existing_clients_key(b"salt") == expected

    def test_an_empty_passphrase_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="empty"):
            PassphraseKeyProvider("")

    def test_a_passphrase_that_utf8_cannot_hold_is_refused_without_showing_it(self) -> None:
        with pytest.raises(InvalidArgument) as caught:
            PassphraseKeyProvider("secret \udfff")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "foreign",
        [b"", bytes(16), bytes(34), b"xtrace-scrypt-2" + wrapped()[15:], wrapped()[1:], wrapped() + b"\0", MAGIC],
        ids=["empty", "salt alone", "zeros", "another version", "without its start", "longer", "magic alone"],
    )
    def test_a_foreign_wrapped_key_is_refused(self, foreign: bytes) -> None:
        with pytest.raises(InvalidContext, match="passphrase"):
            cheap().unwrap_key(foreign)

    def test_every_truncation_of_a_wrapped_key_is_refused(self) -> None:
        for length in range(len(wrapped())):
            with pytest.raises(InvalidContext):
                cheap().unwrap_key(wrapped()[:length])

    @pytest.mark.parametrize(
        ("log2_n", "r", "p"),
        [
            (0, 8, 1),
            (21, 8, 1),  # 128·N·r is 2 GiB
            (20, 9, 1),
            (23, 2, 1),  # 2 GiB too
            (64, 8, 1),
            (255, 8, 1),
            (10, 0, 1),
            (17, 65, 1),
            (17, 255, 1),
            (10, 8, 0),
            (10, 8, 5),
            (10, 8, 255),
            (20, 16, 16),
            (16, 1, 1),  # RFC 7914: N is below 2^(16 r). Found here: these two ended in a MemoryError.
            (20, 1, 1),
        ],
    )
    def test_scrypt_parameters_out_of_bounds_are_refused_before_any_work(self, log2_n: int, r: int, p: int) -> None:
        with pytest.raises(InvalidContext, match="scrypt"):
            cheap().unwrap_key(wrapped(log2_n, r, p))

    @pytest.mark.parametrize(("log2_n", "r", "p"), [(1, 1, 1), (15, 1, 1), (4, 255, 4), (12, 8, 2)])
    def test_scrypt_parameters_within_the_bounds_work(self, log2_n: int, r: int, p: int) -> None:
        assert len(cheap().unwrap_key(wrapped(log2_n, r, p))) == 32

    def test_every_changed_parameter_or_salt_gives_another_key(self) -> None:
        keys = {
            cheap().unwrap_key(one)
            for one in (wrapped(), wrapped(5), wrapped(4, 9), wrapped(4, 8, 2), wrapped(salt=b"\1" + bytes(15)))
        }
        assert len(keys) == 5


KEY = bytes(range(32))
SECRET = b'{"p":"f00d"}'
BOUND_TO = b"xtrace/context/1 and what belongs to it"
REGIONS = {"magic": range(4), "check": range(4, 20), "iv": range(20, 36), "tag": range(36, 52), "rest": range(52, 64)}


def flipped(stored: str, position: int, bit: int) -> str:
    data = bytearray(base64.b64decode(stored))
    data[position] ^= 1 << bit
    return base64.b64encode(data).decode()


class TestSealedSecret:
    def test_opens_under_its_key_and_what_it_is_bound_to(self) -> None:
        for secret in (b"", SECRET, bytes(5000)):
            assert open_secret(KEY, seal_secret(KEY, secret, BOUND_TO), BOUND_TO) == secret

    def test_is_new_each_time(self) -> None:
        assert seal_secret(KEY, SECRET, BOUND_TO) != seal_secret(KEY, SECRET, BOUND_TO)

    def test_another_key_is_a_wrong_key(self) -> None:
        stored = seal_secret(KEY, SECRET, BOUND_TO)
        for other in (bytes(32), KEY[::-1], KEY[:-1] + b"\0"):
            with pytest.raises(WrongKey):
                open_secret(other, stored, BOUND_TO)

    def test_the_right_key_with_other_public_parts_is_a_changed_context(self) -> None:
        stored = seal_secret(KEY, SECRET, BOUND_TO)
        for other in (b"", BOUND_TO[:-1], BOUND_TO + b"\0"):
            with pytest.raises(InvalidContext, match="the key is right"):
                open_secret(KEY, stored, other)

    @pytest.mark.parametrize("region", REGIONS)
    def test_a_flipped_bit_anywhere_is_noticed(self, region: str) -> None:
        stored = seal_secret(KEY, SECRET, BOUND_TO)
        assert len(base64.b64decode(stored)) == REGIONS["rest"].stop
        # A changed key check cannot be told from a wrong key; every other change can.
        expected = WrongKey if region == "check" else InvalidContext
        for position in REGIONS[region]:
            for bit in range(8):
                with pytest.raises(expected):
                    open_secret(KEY, flipped(stored, position, bit), BOUND_TO)

    def test_every_truncation_is_a_damaged_context(self) -> None:
        data = base64.b64decode(seal_secret(KEY, SECRET, BOUND_TO))
        for length in range(len(data)):
            with pytest.raises(InvalidContext):
                open_secret(KEY, base64.b64encode(data[:length]).decode(), BOUND_TO)

    @pytest.mark.parametrize("foreign", ["", "!", "XTS1", "ä", "A" * 200, '{"sk": 1}', "A" * 41])
    def test_what_this_software_did_not_write_is_a_damaged_context(self, foreign: str) -> None:
        with pytest.raises(InvalidContext):
            open_secret(KEY, foreign, BOUND_TO)

    def test_no_message_shows_key_or_secret(self) -> None:
        stored = seal_secret(KEY, SECRET, BOUND_TO)
        for key, text, bound in ((bytes(32), stored, BOUND_TO), (KEY, stored, b""), (KEY, "A" * 90, BOUND_TO)):
            with pytest.raises((WrongKey, InvalidContext)) as caught:
                open_secret(key, text, bound)
            for hidden in ("f00d", KEY.hex(), stored):
                assert hidden not in str(caught.value)


def test_a_key_that_cannot_be_put_together_is_refused_without_its_values() -> None:
    owner = client("paillier", 256, 6)
    wrong = owner.secrets() | {"q": "not a number, but still a secret"}
    with pytest.raises(InvalidContext) as caught:
        type(owner).load(owner.config(), wrong)
    assert "secret," not in str(caught.value)
    assert caught.value.__suppress_context__


def test_encrypted_indexes_show_their_size_only() -> None:
    batch = client("paillier", 256, 600).encrypt_vec_batch([[1] * 600] * 2)
    assert [repr(batch), repr(batch[0])] == ["<EncryptedIndexBatch of 2 vectors>", "<EncryptedIndex of 3 ciphertexts>"]
