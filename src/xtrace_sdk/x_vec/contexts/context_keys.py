"""All keys of one execution context in memory, and the secret text in which they are sealed.

The public parts show whether the secret is that of a native context or of another client's (docs/formats.md, "Execution
context" and "Contexts of existing clients"); nothing is tried.
"""

import secrets
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from xtrace_sdk.arguments import shown
from xtrace_sdk.errors import InvalidArgument, InvalidContext
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.chunks.superbit import PROJECTION
from xtrace_sdk.x_vec.compat.content import ExistingContentCipher
from xtrace_sdk.x_vec.compat.keys import existing_id, hedge_of, metadata_key
from xtrace_sdk.x_vec.compat.paillier import load_existing
from xtrace_sdk.x_vec.contexts.saved_context import FORMAT_VERSION, PublicParts, canonical_json, parse_public
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.mac import Mac
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient
from xtrace_sdk.x_vec.schemes.registry import load_client

PROMPTS: Final = ("query_prompt", "passage_prompt")
CONFIG_OF_CONTEXTS: Final = ("version", "private_metadata")
"""The keys of `config` besides the parameters of the scheme."""


class ContextKeys(Secretive):
    """The keys of a context with its public parts, and the keys of the context that it replaces, if any."""

    __slots__ = (
        *("content", "homomorphic", "id", "manifests", "metadata_key", "predecessor", "private_metadata", "public"),
        *("embedding", "pseudonyms", "replaced"),
    )

    def __init__(
        self,
        public: PublicParts,
        context_id: str,
        homomorphic: HomomorphicClient,
        content: ContentCipher,
        metadata_key: bytes,
        predecessor: "ContextKeys | None" = None,
        manifests: Mapping[str, str] | None = None,
        replaced: str | None = None,
        embedding: EmbeddingModel | None = None,
    ) -> None:
        """Use `generate` or `load` instead.

        `manifests` contains the digests of the manifests that list the predecessor's accepted chunks, `replaced` the id
        of a predecessor whose rotation is finished, and `embedding` the model of the vectors.
        """
        self.public = public
        self.private_metadata = public.private_metadata
        self.id = context_id
        self.homomorphic = homomorphic
        self.content = content
        self.metadata_key = metadata_key
        self.pseudonyms = Mac(metadata_key)
        self.predecessor = predecessor
        self.manifests = manifests
        self.replaced = replaced
        self.embedding = embedding

    @classmethod
    def generate(
        cls,
        homomorphic: HomomorphicClient,
        private_metadata: Sequence[str] = (),
        predecessor: "ContextKeys | None" = None,
        manifests: Mapping[str, str] | None = None,
        embedding: EmbeddingModel | None = None,
    ) -> Self:
        """Creates a context around a new homomorphic key.

        A successor inherits its predecessor's metadata key, private fields and embedding model, because the names and
        the private metadata of stored chunks are pseudonyms under that key.
        """
        if predecessor is not None:
            private_metadata, embedding = predecessor.private_metadata, predecessor.embedding
        config = {**homomorphic.config(), "version": FORMAT_VERSION}
        if private_metadata:
            config["private_metadata"] = list(private_metadata)
        public = PublicParts(
            homomorphic.type,
            canonical_json(homomorphic.public_key()).decode(),
            canonical_json(config).decode(),
        )
        metadata_key = secrets.token_bytes(KEY_BYTES) if predecessor is None else predecessor.metadata_key
        content = ContentCipher(secrets.token_bytes(KEY_BYTES), homomorphic.hedge)
        return cls(
            public, public.public_id, homomorphic, content, metadata_key, predecessor, manifests, embedding=embedding
        )

    @classmethod
    def load(
        cls,
        public: PublicParts,
        secret: Mapping[str, Any],
        sealed_secret_key: str | None = None,
    ) -> Self:
        """Loads the keys from the public parts and the result of `secret`.

        `sealed_secret_key` is another client's stored `sk`. Raises `InvalidContext` if anything is missing or does not
        match, or if there is a key that this version does not know.
        """
        public = PublicParts(public.type, public.pk, public.config)
        try:
            content_key = bytes.fromhex(secret["content_key"])
            if public.is_ours:
                keys = cls._load_own(public, secret, content_key)
                check_known("config", public.config_object(), {*keys.homomorphic.config(), *CONFIG_OF_CONTEXTS})
                check_known("secret", secret, keys.secret())
                return keys
            hedge = hedge_of(content_key)
            content = ExistingContentCipher(content_key, hedge, sealed_secret_key)
            check_known("secret", secret, ("sk", "content_key"))
            homomorphic = load_existing(public.type, public.pk, public.config, secret["sk"], hedge)
        except (KeyError, TypeError, ValueError, InvalidArgument):
            raise InvalidContext("the context's secret lacks a key") from None
        return cls(
            public,
            existing_id(public.type, public.pk, public.config, homomorphic),
            homomorphic,
            content,
            metadata_key(content_key),
        )

    @classmethod
    def _load_own(cls, public: PublicParts, secret: Mapping[str, Any], content_key: bytes) -> Self:
        homomorphic = load_client(public.type, public.config_object(), secret)
        if canonical_json(homomorphic.public_key()).decode() != public.pk:
            raise InvalidContext("the context's secret key does not belong to its public key")
        predecessor = manifests = None
        if "predecessor" in secret:
            before = secret["predecessor"]
            check_known("predecessor", before, ("type", "pk", "config", "secret", "manifests"))
            if "predecessor" in before["secret"]:  # could be nested without limit
                raise InvalidContext(
                    "the context's predecessor has a predecessor itself, which a rotation never produces"
                )
            parts = parse_public(before, "the context's predecessor")
            predecessor = ContextKeys.load(parts, before["secret"])
            manifests = before.get("manifests")
        content, metadata_key = ContentCipher(content_key, homomorphic.hedge), bytes.fromhex(secret["metadata_key"])
        return cls(
            public,
            public.public_id,
            homomorphic,
            content,
            metadata_key,
            predecessor,
            manifests,
            secret.get("replaced"),
            _embedding(secret["embedding"], homomorphic.embed_len) if "embedding" in secret else None,
        )

    def secret(self) -> dict[str, Any]:
        """Returns all secrets, only for encryption under the key provider's key."""
        secret: dict[str, Any] = self.homomorphic.secrets() | {"content_key": self.content.secret().hex()}
        if self.public.is_ours:
            secret["metadata_key"] = self.metadata_key.hex()
        if self.predecessor is not None:
            before = self.predecessor.public.public_data() | {"secret": self.predecessor.secret()}
            secret["predecessor"] = before if self.manifests is None else before | {"manifests": dict(self.manifests)}
        if self.embedding is not None:
            secret["embedding"] = self.embedding.as_object()
        if self.replaced is not None:
            secret["replaced"] = self.replaced
        return secret

    def without_predecessor(self) -> "ContextKeys":
        """Returns the same keys without the predecessor's, of which only the id is left."""
        replaced = self.replaced if self.predecessor is None else self.predecessor.id
        keys = (self.public, self.id, self.homomorphic, self.content, self.metadata_key)
        return ContextKeys(*keys, replaced=replaced, embedding=self.embedding)


def _embedding(stored: Any, embed_len: int) -> EmbeddingModel:
    """Returns the embedding model in the secret. Raises `InvalidContext` if it does not match the context's vectors."""
    check_known("embedding", stored, ("provider", "model_name", "dim", "bits", "projection", *PROMPTS))
    projection = stored.get("projection")
    if projection != (None if stored.get("bits") is None else PROJECTION):
        raise InvalidContext(
            f"the context's embedding has the projection {shown(projection)}, which this version does not support: "
            "update XTrace"
        )
    prompts = (stored.get(name, "") for name in PROMPTS)
    model = EmbeddingModel(stored["provider"], stored["model_name"], stored["dim"], stored.get("bits"), *prompts)
    if model.embed_len != embed_len:
        raise InvalidContext(
            f"the context's embedding model gives {model.embed_len} bits, its vectors have {embed_len}"
        )
    return model


def check_known(what: str, given: Iterable[str], known: Container[str]) -> None:
    """Raises `InvalidContext` for a name that this version does not know.

    A later version may have given it a meaning that must not be ignored.
    """
    for name in given:
        if name not in known:
            raise InvalidContext(
                f"the context's {what} has the key {name[:64]!r}, which this version does not support: update XTrace"
            )
