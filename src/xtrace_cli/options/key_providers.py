"""The key that opens a context's file, and a new one to protect it: a passphrase, a key file or AWS KMS."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.passphrase import passphrase_of, second_passphrase
from xtrace_cli.options.settings import current_settings

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.keys.provider import KeyProvider

KeyFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The key file that protects the context.")]
KMSKey = Annotated[
    str | None,
    typer.Option("--kms-key", metavar="KEY_ID", help="The AWS KMS key that protects the context."),
]
KMSContext = Annotated[
    list[str] | None,
    typer.Option(
        "--kms-encryption-context",
        metavar="NAME=VALUE",
        help="The encryption context that the AWS KMS key was used with; may be given several times.",
    ),
]
NewKeyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Protect it with this key file instead, which is created if it does not exist."),
]
NewKMSKey = Annotated[
    str | None,
    typer.Option("--new-kms-key", metavar="KEY_ID", help="Protect it with this AWS KMS key instead: id, ARN or alias."),
]
NewKMSContext = Annotated[
    list[str] | None,
    typer.Option(
        "--new-kms-encryption-context",
        metavar="NAME=VALUE",
        help="Bind the KMS key to this encryption context; may be given several times.",
    ),
]


def provider_of(
    path: Path,
    passphrase_file: Path | None,
    key_file: Path | None = None,
    kms_key: str | None = None,
    kms_context: Sequence[str] | None = None,
) -> "KeyProvider":
    """The provider of the kind that the saved context names; what no option says, the settings say.

    Raises `WrongUse` without what this needs, and what reading the settings raises.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import read_public_part
    from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyFileProvider

    public = read_public_part(path)
    kind = public.key_provider
    settings = current_settings()
    key_file, kms_key = key_file or settings.path("key_file"), kms_key or settings.text("kms_key")
    if kind == KeyFileProvider.kind and key_file is None:
        raise WrongUse(f"{path} is protected by a key file: name it with --key-file or XTRACE_KEY_FILE")
    if kind == AWSKMSKeyProvider.kind and kms_key is None:
        raise WrongUse(f"{path} is protected by AWS KMS: name the key with --kms-key or XTRACE_KMS_KEY")
    return named_provider(
        passphrase_file,
        key_file if kind == KeyFileProvider.kind else None,
        kms_key if kind == AWSKMSKeyProvider.kind else None,
        kms_context,
        context_id=public.id,
    )


def named_provider(
    passphrase_file: Path | None,
    key_file: Path | None,
    kms_key: str | None,
    kms_context: Sequence[str] | None,
    *,
    context_id: str | None = None,
) -> "KeyProvider":
    """Returns the provider of the named key file or AWS KMS key, else of the passphrase.

    With the context's id, the passphrase may also come from the system's keyring.
    """
    from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyFileProvider, PassphraseKeyProvider

    if key_file is not None:
        return KeyFileProvider(key_file)
    if kms_key is not None:
        return AWSKMSKeyProvider(_kms_client(), kms_key, _encryption_context(kms_context))
    return PassphraseKeyProvider(passphrase_of(passphrase_file, context_id))


def new_provider(
    passphrase_file: Path | None,
    key_file: Path | None,
    kms_key: str | None,
    kms_context: Sequence[str] | None,
    *,
    exists: bool = False,
) -> "KeyProvider":
    """Returns the provider that the `--new-…` options name, by default a passphrase; `exists` if it is already in use.

    Raises `WrongUse` if they name more than one.
    """
    from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyFileProvider, PassphraseKeyProvider

    if sum(option is not None for option in (passphrase_file, key_file, kms_key)) > 1:
        raise WrongUse("give one of --new-passphrase-file, --new-key-file and --new-kms-key")
    if key_file is not None:
        return KeyFileProvider(key_file) if exists or key_file.exists() else KeyFileProvider.create(key_file)
    if kms_key is not None:
        return AWSKMSKeyProvider(_kms_client(), kms_key, _encryption_context(kms_context))
    return PassphraseKeyProvider(second_passphrase(passphrase_file, exists=exists))


def _encryption_context(pairs: Sequence[str] | None) -> dict[str, str]:
    context: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name and equals) or name in context:
            raise WrongUse(f"the encryption context has {pair!r}, expected NAME=VALUE, and each name once")
        context[name] = value
    return context


def _kms_client() -> Any:
    from xtrace_sdk.errors import InvalidArgument, KeyProviderFault

    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise InvalidArgument("boto3 is not installed: pip install 'xtracedb[aws]'") from None
    try:
        return boto3.client("kms")
    except BotoCoreError as error:
        raise KeyProviderFault(f"AWS KMS could not be reached: {error}") from None
