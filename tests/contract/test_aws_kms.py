"""`AWSKMSKeyProvider` against a KMS server over real HTTP: what it wraps opens, and every refusal is a sentence."""

import base64
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.aws import ALIAS, KMS, client_of, failing_kms, running_kms
from xtrace_sdk.errors import InvalidArgument, InvalidContext, KeyMaterialError, KeyProviderFault, WrongKey
from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider, KeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


@pytest.fixture(scope="module")
def kms() -> Iterator[KMS]:
    with running_kms() as server:
        yield server


def new_context(provider: KeyProvider, path: Path) -> ExecutionContext:
    return ExecutionContext.create(provider, "paillier", 8, 256, path=path, insecure_allow_weak_parameters=True)


def edek_of(path: Path) -> bytes:
    document: dict[str, str] = json.loads(path.read_text())
    assert document["key_provider"] == "aws_kms"
    return base64.b64decode(document["wrapped_key"], validate=True)


def test_a_context_opens_with_what_its_file_says(kms: KMS, tmp_path: Path) -> None:
    path = tmp_path / "context"
    context = new_context(AWSKMSKeyProvider.create(kms.client(), ALIAS), path)
    edek = edek_of(path)
    provider = AWSKMSKeyProvider.from_wrapped(edek, kms_client=kms.client(), key_id=ALIAS)
    assert (
        ExecutionContext.load_from_disk(path=path, key_provider=provider, insecure_allow_weak_encryption=True)
        == context
    )
    assert kms.client().decrypt(CiphertextBlob=edek)["KeyId"].endswith(kms.key_id)
    with pytest.raises(InvalidContext, match="key provider 'aws_kms'"):
        ExecutionContext.load_from_disk("passphrase", path, insecure_allow_weak_encryption=True)
    with pytest.raises(WrongKey, match="a different wrapped key"):
        AWSKMSKeyProvider.from_wrapped(edek[:-1], kms_client=kms.client(), key_id=ALIAS).unwrap_key(edek)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Plaintext": 10**9, "CiphertextBlob": b"x"},
        {"Plaintext": b"x" * 31, "CiphertextBlob": b"x"},
        {"Plaintext": b"x" * 33, "CiphertextBlob": b"x"},
        {"Plaintext": "x" * 32, "CiphertextBlob": b"x"},
        {"Plaintext": b"x" * 32},
        {"Plaintext": b"x" * 32, "CiphertextBlob": 10**9},
        {"Plaintext": b"x" * 32, "CiphertextBlob": b""},
        {"Plaintext": b"x" * 32, "CiphertextBlob": b"x" * 6145},
    ],
    ids=range(9),
)
def test_a_key_service_that_gives_no_key_is_at_fault(answer: dict[str, Any]) -> None:
    class Service:
        def generate_data_key(self, **_: Any) -> dict[str, Any]:
            return answer

        def decrypt(self, **_: Any) -> dict[str, Any]:
            return answer

    provider = AWSKMSKeyProvider(Service(), ALIAS)
    with pytest.raises(KeyProviderFault, match="AWS KMS returned"):
        provider.new_key()
    if answer.get("Plaintext") == b"x" * 32:
        assert provider.unwrap_key(b"wrapped") == b"x" * 32
        return
    with pytest.raises(KeyProviderFault, match="AWS KMS returned"):
        provider.unwrap_key(b"wrapped")


def test_every_context_has_a_data_key_of_its_own(kms: KMS) -> None:
    provider = AWSKMSKeyProvider.create(kms.client(), ALIAS)
    made = [provider.new_key() for _ in range(3)]
    assert len({key for key, _ in made}) == len({wrapped for _, wrapped in made}) == 3
    assert [provider.unwrap_key(wrapped) for _, wrapped in made] == [key for key, _ in made]


def test_an_encryption_context_is_bound(kms: KMS, tmp_path: Path) -> None:
    bound = {"tenant": "a", "purpose": "search"}
    context = new_context(AWSKMSKeyProvider.create(kms.client(), ALIAS, bound), tmp_path / "context")
    edek = edek_of(tmp_path / "context")

    def load(encryption_context: dict[str, str] | None) -> ExecutionContext:
        provider = AWSKMSKeyProvider.from_wrapped(
            edek, kms_client=kms.client(), key_id=ALIAS, encryption_context=encryption_context
        )
        return ExecutionContext.load_from_disk(
            path=tmp_path / "context", key_provider=provider, insecure_allow_weak_encryption=True
        )

    assert load(dict(reversed(bound.items()))) == context
    for other in (None, {"tenant": "b", "purpose": "search"}, {"tenant": "a"}):
        with pytest.raises(WrongKey, match="encryption context"):
            load(other)


def test_real_refusals_are_one_sentence_each(kms: KMS) -> None:
    client = kms.client()
    with pytest.raises(KeyProviderFault, match="the AWS KMS key alias/missing does not exist"):
        AWSKMSKeyProvider.create(client, "alias/missing")
    other = client.create_key()["KeyMetadata"]["KeyId"]
    _, wrapped_key = AWSKMSKeyProvider.create(client, other).new_key()
    # AWS calls this an incorrect key, moto a denied one.
    with pytest.raises(KeyMaterialError, match=r"another AWS KMS key than alias/xtrace|denied access"):
        AWSKMSKeyProvider(client, ALIAS).unwrap_key(wrapped_key)
    with pytest.raises(WrongKey, match="cannot unwrap"):
        AWSKMSKeyProvider(client, ALIAS).unwrap_key(kms.key_id.encode() + bytes(80))
    with pytest.raises(InvalidArgument, match="key_id"):
        AWSKMSKeyProvider(client, "")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("ThrottlingException", KeyProviderFault, "throttling"),
        ("AccessDeniedException", KeyProviderFault, "denied"),
        ("DisabledException", KeyProviderFault, "disabled"),
        ("KMSInvalidStateException", KeyProviderFault, "present state"),
        ("NotFoundException", KeyProviderFault, "the AWS KMS key alias/xtrace does not exist"),
        ("ExpiredTokenException", KeyProviderFault, "credentials"),
        ("InvalidKeyUsageException", KeyProviderFault, "symmetric"),
        ("KMSInternalException", KeyProviderFault, "try again"),
        ("IncorrectKeyException", WrongKey, "another AWS KMS key than alias/xtrace"),
        ("InvalidCiphertextException", WrongKey, "another key or encryption context"),
        ("SomethingNewException", KeyProviderFault, "SomethingNewException"),
    ],
)
def test_each_error_of_aws_is_one_sentence(code: str, kind: type[KeyMaterialError], sentence: str) -> None:
    with failing_kms(code) as client:
        provider = AWSKMSKeyProvider.from_wrapped(b"wrapped", kms_client=client, key_id=ALIAS)
        for call in (provider.new_key, lambda: provider.unwrap_key(b"wrapped")):
            with pytest.raises(kind, match=sentence) as caught:
                call()
            assert "\n" not in str(caught.value)
            assert caught.type is kind


def test_no_credentials_and_no_network_are_one_sentence_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyProviderFault, match="cannot be reached"):
        AWSKMSKeyProvider.create(client_of("http://127.0.0.1:9"), ALIAS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nobody = client_of("http://127.0.0.1:9", aws_access_key_id=None, aws_secret_access_key=None)
    with pytest.raises(KeyProviderFault, match="no AWS credentials"):
        AWSKMSKeyProvider.create(nobody, ALIAS)


def test_a_short_data_key_is_refused() -> None:
    class Short:
        def generate_data_key(self, **parameters: Any) -> dict[str, bytes]:
            return {"Plaintext": bytes(16), "CiphertextBlob": b"wrapped"}

        def decrypt(self, **parameters: Any) -> dict[str, bytes]:
            return {"Plaintext": b""}

    with pytest.raises(KeyProviderFault, match="16 bytes"):
        AWSKMSKeyProvider.create(Short(), ALIAS)
    with pytest.raises(KeyProviderFault, match="0 bytes"):
        AWSKMSKeyProvider(Short(), ALIAS).unwrap_key(b"wrapped")


def test_the_provider_shows_nothing(kms: KMS) -> None:
    provider = AWSKMSKeyProvider.create(kms.client(), ALIAS)
    assert isinstance(provider, KeyProvider)
    assert repr(provider) == "<AWSKMSKeyProvider>"
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(provider)
