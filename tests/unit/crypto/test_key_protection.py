"""Passphrases, sealed secrets, and that objects with secrets neither show nor hand them out."""

import base64
import hashlib
from importlib.resources import files

import pytest

from support.crypto_support import client
from xtrace_sdk.errors import InvalidArgument, InvalidContext, WrongKey
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey
from xtrace_sdk.x_vec.keys.sealed_secret import Envelope, Slot, has_recovery_key

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


KEY, RECOVERY = bytes(range(32)), bytes(range(100, 132))
SECRET = b'{"p":"f00d"}'
BOUND_TO = b"xtrace/context/1 and what belongs to it"


def regions(slots: int) -> dict[str, range]:
    """Where what lies in a sealed secret."""
    starts = [("magic", 4), ("count", 1)]
    for slot in range(slots):
        starts += [(f"check of slot {slot}", 16), (f"rest of slot {slot}", 64)]
    starts += [("iv", 16), ("tag", 16), ("ciphertext", len(SECRET))]
    found, start = {}, 0
    for name, size in starts:
        found[name] = range(start, start + size)
        start += size
    return found


def sealed(*, recovery: bool = False) -> str:
    envelope = Envelope.new(KEY, BOUND_TO)
    return (envelope.with_slot(Slot.RECOVERY, RECOVERY) if recovery else envelope).seal(SECRET)


def opened(stored: str, slot: Slot = Slot.PROVIDER, key: bytes = KEY, bound_to: bytes = BOUND_TO) -> bytes:
    return Envelope.open(slot, key, stored, bound_to)[1]


def flipped(stored: str, position: int, bit: int) -> str:
    data = bytearray(base64.b64decode(stored))
    data[position] ^= 1 << bit
    return base64.b64encode(data).decode()


class TestSealedSecret:
    def test_opens_under_its_key_and_what_it_is_bound_to(self) -> None:
        for secret in (b"", SECRET, bytes(5000)):
            assert opened(Envelope.new(KEY, BOUND_TO).seal(secret)) == secret

    def test_is_new_each_time(self) -> None:
        envelope = Envelope.new(KEY, BOUND_TO)
        assert len({sealed(), sealed(), envelope.seal(SECRET), envelope.seal(SECRET)}) == 4

    @pytest.mark.parametrize("slot", Slot)
    def test_another_key_is_a_wrong_key(self, slot: Slot) -> None:
        stored = sealed(recovery=True)
        for other in (bytes(32), KEY[::-1], KEY[:-1] + b"\0", RECOVERY if slot == Slot.PROVIDER else KEY):
            with pytest.raises(WrongKey):
                opened(stored, slot, other)

    def test_the_right_key_with_other_public_parts_is_a_changed_context(self) -> None:
        stored = sealed()
        for other in (b"", BOUND_TO[:-1], BOUND_TO + b"\0"):
            with pytest.raises(InvalidContext, match="the key is correct"):
                opened(stored, bound_to=other)

    @pytest.mark.parametrize("slots", [1, 2])
    def test_a_flipped_bit_anywhere_is_noticed_whichever_slot_opens_it(self, slots: int) -> None:
        stored = sealed(recovery=slots == 2)
        assert len(base64.b64decode(stored)) == regions(slots)["ciphertext"].stop
        for slot, key in list(zip(Slot, (KEY, RECOVERY), strict=True))[:slots]:
            unsure = ("count", f"check of slot {slot}")
            for region, positions in regions(slots).items():
                # A changed key check cannot be told from a wrong key, a changed count can leave the slot out.
                expected = (InvalidContext, WrongKey) if region in unsure else InvalidContext
                for position in positions:
                    for bit in range(8):
                        with pytest.raises(expected):
                            opened(flipped(stored, position, bit), slot, key)

    def test_every_truncation_is_a_damaged_context(self) -> None:
        data = base64.b64decode(sealed(recovery=True))
        for length in range(len(data)):
            with pytest.raises(InvalidContext):
                opened(base64.b64encode(data[:length]).decode())

    @pytest.mark.parametrize("foreign", ["", "!", "XTS1", "WFRTMQ==", "ä", "A" * 200, '{"sk": 1}', "A" * 41])
    def test_what_this_software_did_not_write_is_a_damaged_context(self, foreign: str) -> None:
        with pytest.raises(InvalidContext):
            opened(foreign)

    @pytest.mark.parametrize("count", [0, 3, 255])
    def test_more_slots_than_this_version_has_are_named(self, count: int) -> None:
        data = bytearray(base64.b64decode(sealed()))
        data[4] = count
        with pytest.raises(InvalidContext, match=f"has {count} slots, expected 1 or 2"):
            opened(base64.b64encode(data).decode())

    def test_no_message_shows_key_or_secret(self) -> None:
        stored = sealed()
        for key, text, bound in ((bytes(32), stored, BOUND_TO), (KEY, stored, b""), (KEY, "A" * 90, BOUND_TO)):
            with pytest.raises((WrongKey, InvalidContext)) as caught:
                opened(text, key=key, bound_to=bound)
            for hidden in ("f00d", KEY.hex(), stored):
                assert hidden not in str(caught.value)


class TestSlots:
    def test_both_open_the_same_secret(self) -> None:
        stored = sealed(recovery=True)
        assert opened(stored) == opened(stored, Slot.RECOVERY, RECOVERY) == SECRET

    def test_without_a_recovery_key_there_is_none_to_open_with(self) -> None:
        with pytest.raises(WrongKey, match="does not have a recovery key"):
            opened(sealed(), Slot.RECOVERY, RECOVERY)

    def test_the_one_is_changed_without_the_other(self) -> None:
        envelope, _ = Envelope.open(Slot.RECOVERY, RECOVERY, sealed(recovery=True), BOUND_TO)
        stored = envelope.with_slot(Slot.PROVIDER, bytes(32)).seal(b"changed")
        assert opened(stored, key=bytes(32)) == opened(stored, Slot.RECOVERY, RECOVERY) == b"changed"
        with pytest.raises(WrongKey):
            opened(stored)
        envelope, _ = Envelope.open(Slot.PROVIDER, bytes(32), stored, BOUND_TO)
        stored = envelope.with_slot(Slot.RECOVERY, KEY).seal(b"again")
        assert opened(stored, key=bytes(32)) == opened(stored, Slot.RECOVERY, KEY) == b"again"
        with pytest.raises(WrongKey, match="replaced"):
            opened(stored, Slot.RECOVERY, RECOVERY)

    def test_a_slot_is_taken_away(self) -> None:
        envelope, _ = Envelope.open(Slot.PROVIDER, KEY, sealed(recovery=True), BOUND_TO)
        assert envelope.has_recovery_key
        less = envelope.without_recovery_key()
        assert (less.has_recovery_key, has_recovery_key(less.seal(SECRET))) == (False, False)
        assert opened(less.seal(SECRET)) == SECRET
        with pytest.raises(WrongKey):
            opened(less.seal(SECRET), Slot.RECOVERY, RECOVERY)

    def test_slots_cannot_be_added_taken_away_exchanged_or_replayed_by_others(self) -> None:
        """What a server has: older states of this context, and other contexts under the same keys."""
        envelope = Envelope.new(KEY, BOUND_TO)
        states = [envelope, envelope.with_slot(Slot.RECOVERY, RECOVERY), envelope.with_slot(Slot.RECOVERY, bytes(32))]
        states.append(Envelope.new(KEY, b"another context").with_slot(Slot.RECOVERY, RECOVERY))
        slots, ends = {}, {}
        for i, state in enumerate(states):
            data = base64.b64decode(state.seal(SECRET))
            count = data[4]
            slots[i] = [data[5 + 80 * j : 5 + 80 * (j + 1)] for j in range(count)]
            ends[i] = data[5 + 80 * count :]
        whole = {b"".join(slots[i]) + ends[i] for i in (0, 1, 2)}
        every_slot = [slot for one in slots.values() for slot in one]
        mixed = [[first] for first in every_slot] + [[first, second] for first in every_slot for second in every_slot]
        tried = 0
        for chosen in mixed:
            for end in ends.values():
                if b"".join(chosen) + end in whole:
                    continue
                stored = base64.b64encode(b"XTS1" + bytes([len(chosen)]) + b"".join(chosen) + end).decode()
                for slot, key in zip(Slot, (KEY, RECOVERY), strict=True):
                    with pytest.raises((WrongKey, InvalidContext)):
                        opened(stored, slot, key)
                    tried += 1
        assert tried > 400


WORDS = (
    "hamster diagram private dutch cause delay private meat slide toddler razor book "
    "happy fancy gospel tennis maple dilemma loan word shrug inflict delay length"
)


class TestRecoveryKey:
    @pytest.mark.parametrize(
        ("key", "words"),
        [  # of 256 bits, from the test vectors of BIP-39's reference implementation (trezor/python-mnemonic)
            ("00" * 32, "abandon " * 23 + "art"),
            ("ff" * 32, "zoo " * 23 + "vote"),
            ("7f" * 32, "legal winner thank year wave sausage worth useful " * 3 + "title"),
            ("80" * 32, "letter advice cage absurd amount doctor acoustic avoid " * 3 + "bless"),
            ("68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c", WORDS),
        ],
    )
    def test_known_answers(self, key: str, words: str) -> None:
        if words.endswith(("title", "bless")):  # the last eighth word is the checksum's
            *rest, last = words.split()
            words = " ".join([*rest[:23], last])
        assert RecoveryKey(words).key().hex() == key
        assert RecoveryKey(words).words() == words

    def test_the_list_is_that_of_the_standard(self) -> None:
        text = (files("xtrace_sdk.x_vec.keys") / "bip39" / "english.txt").read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        assert digest == "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
        assert len({word[:4] for word in text.split()}) == 2048

    def test_keys_are_random(self) -> None:
        made = {RecoveryKey.generate().key() for _ in range(50)}
        assert {len(key) for key in made} == {32}
        assert len(made) == 50

    def test_case_lines_numbers_and_punctuation_do_not_matter(self) -> None:
        numbered = "\n".join(f"{i:2}. {word.upper()}," for i, word in enumerate(WORDS.split(), start=1))
        assert RecoveryKey(numbered).key() == RecoveryKey(WORDS).key()

    @pytest.mark.parametrize("count", [0, 1, 12, 23, 25])
    def test_another_number_of_words_is_named(self, count: int) -> None:
        with pytest.raises(InvalidArgument, match=f"{count} words, expected 24"):
            RecoveryKey(" ".join((WORDS.split() * 2)[:count]))

    @pytest.mark.parametrize("position", range(1, 25))
    def test_a_misspelled_word_is_named_by_its_position_and_not_shown(self, position: int) -> None:
        words = WORDS.split()
        words[position - 1] += "x"
        with pytest.raises(InvalidArgument, match=f": word {position} of 24;") as caught:
            RecoveryKey(" ".join(words))
        assert not {*words} & {*str(caught.value).split()} - {"word"}

    def test_all_misspelled_words_are_named(self) -> None:
        words = WORDS.split()
        words[2], words[22] = "privat", "délai"
        with pytest.raises(InvalidArgument, match="word 3, 23 of 24"):
            RecoveryKey(" ".join(words))

    def test_wrong_and_exchanged_words_of_the_list_do_not_fit_together(self) -> None:
        """8 bits of checksum notice 255 of 256; the rest is another key, which opens nothing."""
        with pytest.raises(InvalidArgument, match="the checksum of the recovery key is wrong"):
            RecoveryKey("abandon " * 24)
        noticed, words = 0, WORDS.split()
        for i in range(23):
            exchanged = [*words]
            exchanged[i], exchanged[i + 1] = words[i + 1], words[i]
            replaced = [*words[:i], "zebra", *words[i + 1 :]]
            for wrong in (exchanged, replaced):
                try:
                    other = RecoveryKey(" ".join(wrong)).key()
                except InvalidArgument:
                    noticed += 1
                else:
                    assert other != RecoveryKey(WORDS).key()
        assert noticed >= 44


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
