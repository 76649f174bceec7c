"""The key providers, under the name that programs import; they are defined in `xtrace_sdk.x_vec.keys`."""

from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyFileProvider, KeyProvider, PassphraseKeyProvider

__all__ = ["AWSKMSKeyProvider", "KeyFileProvider", "KeyProvider", "PassphraseKeyProvider"]
