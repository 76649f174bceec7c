"""Keys: random from the first character, checked at the end, stored as hashes."""

import hashlib

from xtrace_server.auth.keys import first_n, hash_key, is_well_formed, new_key


def test_a_new_key_is_well_formed_and_like_no_other() -> None:
    keys = [new_key() for _ in range(200)]
    assert all(is_well_formed(key) for key in keys)
    assert len({first_n(key) for key in keys}) > 195
    assert {len(key) for key in keys} == {46}


def test_every_single_typing_error_is_noticed() -> None:
    key = new_key()
    for i in range(len(key)):
        wrong = "0" if key[i] != "0" else "1"
        assert not is_well_formed(key[:i] + wrong + key[i + 1 :])
    swapped = next(i for i in range(len(key) - 1) if key[i] != key[i + 1])
    assert not is_well_formed(key[:swapped] + key[swapped + 1] + key[swapped] + key[swapped + 2 :])


def test_what_is_no_key_is_not_well_formed() -> None:
    key = new_key()
    for text in ("", "x", key[:-1], key + "0", " " + key[1:], "é" * 46):
        assert not is_well_formed(text)


def test_a_key_is_stored_as_its_sha_256() -> None:
    assert hash_key("abc") == hashlib.sha256(b"abc").hexdigest()
    assert len(hash_key("\udcff")) == 64  # a header of any bytes has a hash
