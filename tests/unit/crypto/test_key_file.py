"""`KeyFileProvider`: the key comes from the file and the salt, and from no file that others may read."""

import os
import pickle
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_sdk.errors import InaccessibleFile, InvalidContext, KeyProviderFault, WrongKey
from xtrace_sdk.x_vec.crypto.key_provider import KeyFileProvider, KeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

MAGIC = b"xtrace-key-file-1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    KeyFileProvider.create(tmp_path / "keys" / "key")
    return tmp_path / "keys" / "key"


def test_a_known_answer(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("xtrace-key-file-1 " + bytes(range(32)).hex() + "\n")
    (tmp_path / "key").chmod(0o400)
    salt = bytes(range(100, 116))
    derived = HKDF(SHA256(), 32, salt, b"xtrace/key-file/1").derive(bytes(range(32)))
    assert KeyFileProvider(tmp_path / "key").unwrap_key(MAGIC + salt) == derived


def test_a_new_file_is_its_owners_alone_and_random(file: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    KeyFileProvider.create(tmp_path / "other")
    assert (tmp_path / "other").read_text() != file.read_text()


def test_the_wrapped_key_gives_the_key_back_and_each_is_new(file: Path) -> None:
    provider = KeyFileProvider(file)
    assert isinstance(provider, KeyProvider)
    made = [provider.new_key() for _ in range(5)]
    assert len({key for key, _ in made}) == len({wrapped for _, wrapped in made}) == 5
    assert all(KeyFileProvider(str(file)).unwrap_key(wrapped) == key for key, wrapped in made)
    assert all(len(wrapped) == 33 and wrapped.startswith(MAGIC) for _, wrapped in made)


def test_a_context_opens_with_its_file_and_no_other(file: Path, tmp_path: Path) -> None:
    saved = tmp_path / "context"
    context = ExecutionContext.create(
        KeyFileProvider(file), "paillier", 8, 256, path=saved, insecure_allow_weak_parameters=True
    )
    assert (
        ExecutionContext.load_from_disk(
            path=saved, key_provider=KeyFileProvider(file), insecure_allow_weak_encryption=True
        )
        == context
    )
    with pytest.raises(WrongKey):
        ExecutionContext.load_from_disk(
            path=saved, key_provider=KeyFileProvider.create(tmp_path / "other"), insecure_allow_weak_encryption=True
        )


# Who owns it, who may change it

ANOTHER_USER = 65_534  # "nobody" nearly everywhere; any number but ours and root's will do
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away and taking another user's part need root")


def refusal(file: Path) -> str:
    """What the provider says about the file; empty if it reads it."""
    salt = bytes(16)
    try:
        KeyFileProvider(file).unwrap_key(MAGIC + salt)
    except KeyProviderFault as error:
        with pytest.raises(KeyProviderFault):
            KeyFileProvider(file).new_key()
        return str(error)
    return ""


@pytest.fixture
def as_another_user() -> Iterator[Path]:
    """A folder of root's; the test runs as a user who can look into it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    KeyFileProvider.create(folder / "key")
    try:
        yield folder
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o620, 0o650, 0o601, 0o777, 0o444])
def test_a_file_that_others_may_read_or_change_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert re.search(f"{mode:04o}.*chmod 600", refusal(file))


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert refusal(file) == ""


@needs_root
@pytest.mark.parametrize("mode", [0o640, 0o440])
def test_the_group_may_read_a_file_of_root_and_of_nobody_else(as_another_user: Path, mode: int) -> None:
    file = as_another_user / "key"
    file.chmod(mode)
    os.chown(file, 0, os.getegid())
    os.seteuid(ANOTHER_USER)
    assert refusal(file) == ""
    os.seteuid(0)
    os.chown(file, ANOTHER_USER, os.getegid())
    os.seteuid(ANOTHER_USER)
    assert f"has mode {mode:04o}" in refusal(file)


@needs_root
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, ANOTHER_USER, -1)
    assert re.search(f"key file .* belongs to the user {ANOTHER_USER}, .*expected 0 .*chown", refusal(file))


@needs_root
def test_a_user_reads_files_of_their_own_and_of_root_only(as_another_user: Path) -> None:
    file = as_another_user / "key"
    for owner, problem in ((ANOTHER_USER, ""), (ANOTHER_USER - 1, f"belongs to the user {ANOTHER_USER - 1}")):
        os.chown(file, owner, os.getegid())
        file.chmod(0o600 if owner == ANOTHER_USER else 0o644)
        os.seteuid(ANOTHER_USER)
        assert problem in refusal(file)
        assert bool(problem) == bool(refusal(file))
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_may_write_is_refused_unless_it_is_sticky(file: Path, mode: int) -> None:
    file.parent.chmod(mode)
    assert re.search(f"folder .* has mode {mode:04o}, so others can replace the file", refusal(file))
    file.parent.chmod(mode | stat.S_ISVTX)
    assert refusal(file) == ""


@needs_root
def test_a_folder_of_another_user_is_refused(file: Path) -> None:
    os.chown(file.parent, ANOTHER_USER, -1)
    assert re.search(f"folder .* belongs to the user {ANOTHER_USER}", refusal(file))


def test_of_a_link_both_folders_are_checked(file: Path, tmp_path: Path) -> None:
    """As Kubernetes mounts secrets: key → ..data/key, ..data → a folder that is exchanged as a whole."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    mounted.joinpath("..data").symlink_to(file.parent)
    mounted.joinpath("key").symlink_to(Path("..data") / "key")
    assert refusal(mounted / "key") == ""
    for folder in (mounted, file.parent):
        folder.chmod(0o777)
        assert f"the folder {folder} " in refusal(mounted / "key")
        folder.chmod(0o755)


def test_a_file_is_never_overwritten(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(InaccessibleFile, match="exists"):
        KeyFileProvider.create(file)
    assert file.read_bytes() == before


def test_what_is_no_key_file_is_refused_without_its_content(file: Path, tmp_path: Path) -> None:
    line = file.read_text()
    digits = line.split()[1]
    for text in ("", "xtrace-key-file-1", digits, line[:-3], line.replace("-1", "-2"), line + "ab", "x" * 100_000):
        file.write_text(text)
        with pytest.raises(KeyProviderFault, match="does not contain a key") as caught:
            KeyFileProvider(file).new_key()
        assert digits[:8] not in str(caught.value)
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(InaccessibleFile, match="cannot be read"):
            KeyFileProvider(missing).new_key()


@pytest.mark.parametrize("foreign", [b"", MAGIC, bytes(33), MAGIC + bytes(15), MAGIC + bytes(17)])
def test_a_foreign_wrapped_key_is_refused(file: Path, foreign: bytes) -> None:
    with pytest.raises(InvalidContext, match="key file"):
        KeyFileProvider(file).unwrap_key(foreign)


def test_the_provider_shows_nothing(file: Path) -> None:
    assert repr(KeyFileProvider(file)) == "<KeyFileProvider>"
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(KeyFileProvider(file))
