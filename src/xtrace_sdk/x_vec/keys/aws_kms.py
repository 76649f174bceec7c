"""Keys from AWS KMS by envelope encryption: KMS generates and wraps them, and its policies control who may unwrap.

KMS sees the data key when it generates and unwraps it, but never sees the context that the key protects. Both together
decrypt everything. The SDK does not depend on boto3: the caller passes a client.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Protocol, Self

from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InvalidArgument, KeyMaterialError, KeyProviderFault, WrongKey
from xtrace_sdk.limits import MAX_WRAPPED_KEY_BYTES
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.existing_protocol import ExistingNames
from xtrace_sdk.x_vec.keys.secrecy import Secretive


class KMSClient(Protocol):
    """The two used calls of `boto3.client("kms")`."""

    def generate_data_key(self, **parameters: Any) -> Mapping[str, Any]: ...
    def decrypt(self, **parameters: Any) -> Mapping[str, Any]: ...


@checked_calls
class AWSKMSKeyProvider(ExistingNames, Secretive):
    """Gets keys from AWS KMS (`GenerateDataKey`, AES_256) and unwraps them again (`Decrypt`).

    The wrapped key is KMS's `CiphertextBlob`. `encryption_context` (names and values) is bound to it: KMS unwraps only
    with the same one, and logs it in plaintext. The data key is requested when needed; only the one from `create` is
    kept in memory until its first use.
    """

    __slots__ = ("_client", "_edek", "_encryption_context", "_first", "_key_id")

    kind: ClassVar[str] = "aws_kms"

    def __init__(self, kms_client: KMSClient, key_id: str, encryption_context: Mapping[str, str] | None = None) -> None:
        """Creates a provider without contacting KMS; it unwraps the key of every context that `key_id` wrapped."""
        if not key_id:
            raise InvalidArgument("key_id is empty, expected a key id, an ARN or an alias (alias/…) of AWS KMS")
        self._client = kms_client
        self._key_id = key_id
        self._encryption_context = dict(encryption_context or {})
        self._edek: bytes | None = None
        self._first: tuple[bytes, bytes] | None = None

    @classmethod
    def create(cls, kms_client: KMSClient, key_id: str, encryption_context: Mapping[str, str] | None = None) -> Self:
        """Creates a provider for new contexts, with a new data key from KMS.

        Raises `KeyProviderFault` if KMS does not return one (denied, disabled, not found, throttled, unreachable).
        """
        provider = cls(kms_client, key_id, encryption_context)
        provider._first = provider._generate()
        return provider

    @classmethod
    def from_wrapped(
        cls,
        edek: bytes,
        *,
        kms_client: KMSClient,
        key_id: str,
        encryption_context: Mapping[str, str] | None = None,
    ) -> Self:
        """Creates a provider that unwraps this wrapped key when needed.

        `edek` is the `wrapped_key` of a saved context, decoded from base64. KMS is not contacted yet.
        """
        provider = cls(kms_client, key_id, encryption_context)
        provider._edek = bytes(edek)
        return provider

    def new_key(self) -> tuple[bytes, bytes]:
        """Returns a new data key and its wrapped form. Raises `KeyProviderFault`."""
        first, self._first = self._first, None
        return first or self._generate()

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """Unwraps a data key.

        Raises `WrongKey` if it was wrapped under another KMS key or another encryption context, or is not the one that
        the provider was created for, and `KeyProviderFault` if KMS fails to unwrap it for another reason.
        """
        if self._edek is not None and self._edek != wrapped_key:
            raise WrongKey("the provider was created for a different wrapped key than this context's")
        with _one_sentence(self._key_id):
            answer = self._client.decrypt(CiphertextBlob=wrapped_key, KeyId=self._key_id, **self._bound())
            return _data_key(answer)

    def _generate(self) -> tuple[bytes, bytes]:
        with _one_sentence(self._key_id):
            answer = self._client.generate_data_key(KeyId=self._key_id, KeySpec="AES_256", **self._bound())
            return _data_key(answer), _bytes_of(answer, "CiphertextBlob", 1, MAX_WRAPPED_KEY_BYTES)

    def _bound(self) -> dict[str, dict[str, str]]:
        return {"EncryptionContext": self._encryption_context} if self._encryption_context else {}


def _data_key(answer: Mapping[str, Any]) -> bytes:
    return _bytes_of(answer, "Plaintext", KEY_BYTES, KEY_BYTES)


def _bytes_of(answer: Mapping[str, Any], name: str, fewest: int, most: int) -> bytes:
    value = answer.get(name)
    if not isinstance(value, bytes) or not fewest <= len(value) <= most:
        got = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        expected = str(most) if fewest == most else f"{fewest} to {most}"
        raise KeyProviderFault(f"AWS KMS returned {got} as {name}, expected {expected} bytes")
    return value


_THROTTLED: Final = "AWS KMS is throttling requests: wait a moment and try again"
_DENIED: Final = (
    "AWS KMS denied access to the key {key}: the caller needs kms:GenerateDataKey and kms:Decrypt on it, "
    "under the same encryption context"
)
_DISABLED: Final = "the AWS KMS key {key} is disabled: enable it, or use another key"
_UNUSABLE: Final = (
    "the AWS KMS key {key} cannot be used in its present state (pending deletion, pending import, or unavailable)"
)
_NOT_FOUND: Final = "the AWS KMS key {key} does not exist in this account and region"
_CREDENTIALS: Final = "AWS refused the credentials: they are unknown, expired, or wrongly signed; sign in again"
_USAGE: Final = "the AWS KMS key {key} is not a symmetric key for encryption and decryption"
_FAILED: Final = "AWS KMS failed or was too slow: try again"
_NO_CREDENTIALS: Final = "no AWS credentials were found: set them in the environment, a profile or a role"
_UNREACHABLE: Final = "AWS KMS cannot be reached: check the region, the endpoint and the network"
_OTHER: Final = "AWS KMS rejected the request for the key {key} ({code})"
_WRONG_KEY: Final = "the context's key was wrapped under another AWS KMS key than {key}"
_WRONG_BINDING: Final = (
    "AWS KMS cannot unwrap the context's key: it was wrapped under another key or encryption context, or was changed"
)

# https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html, and the errors of both calls there.
_BY_CODE: Final[Mapping[str, tuple[type[KeyMaterialError], str]]] = {
    **dict.fromkeys(
        ("ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded"),
        (KeyProviderFault, _THROTTLED),
    ),
    **dict.fromkeys(("AccessDeniedException", "AccessDenied", "NotAuthorized"), (KeyProviderFault, _DENIED)),
    "DisabledException": (KeyProviderFault, _DISABLED),
    **dict.fromkeys(("KMSInvalidStateException", "KeyUnavailableException"), (KeyProviderFault, _UNUSABLE)),
    **dict.fromkeys(("NotFoundException", "InvalidArnException"), (KeyProviderFault, _NOT_FOUND)),
    **dict.fromkeys(
        (
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationTokenException",
            "OptInRequired",
            "UnrecognizedClientException",
        ),
        (KeyProviderFault, _CREDENTIALS),
    ),
    "InvalidKeyUsageException": (KeyProviderFault, _USAGE),
    **dict.fromkeys(
        ("DependencyTimeoutException", "InternalFailure", "KMSInternalException", "ServiceUnavailable"),
        (KeyProviderFault, _FAILED),
    ),
    "IncorrectKeyException": (WrongKey, _WRONG_KEY),
    "InvalidCiphertextException": (WrongKey, _WRONG_BINDING),
}


@contextmanager
def _one_sentence(key_id: str) -> Iterator[None]:
    """Turns boto3's exceptions into this package's errors, with one sentence each."""
    try:
        from botocore import exceptions as boto
    except ImportError:
        raise InvalidArgument("boto3 is not installed: pip install 'xtracedb[aws]'") from None
    try:
        yield
    except boto.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        kind, sentence = _BY_CODE.get(code, (KeyProviderFault, _OTHER))
        raise kind(sentence.format(key=key_id, code=code)) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
        raise KeyProviderFault(_NO_CREDENTIALS) from error
    except (boto.ConnectionError, boto.HTTPClientError) as error:
        raise KeyProviderFault(_UNREACHABLE) from error
    except boto.BotoCoreError as error:
        raise KeyProviderFault(f"AWS KMS could not be reached: {error}") from error
