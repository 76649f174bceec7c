"""Turns the indexes of a request into rows to store."""

from collections.abc import Iterable, Iterator

from xtrace_core.schemes.interface import Evaluation, InvalidCiphertext
from xtrace_server.errors import CiphertextRefused, TooLarge
from xtrace_server.settings import Settings
from xtrace_server.storage.contexts import Binding


def rows_of(
    settings: Settings, evaluation: Evaluation, indexes: Iterable[tuple[int, list[bytes]]], field: str
) -> Iterator[bytes]:
    """Returns the indexes as rows to store; each index comes with the number of its chunk in `field`.

    Raises `CiphertextRefused` and `TooLarge`.
    """
    free = settings.max_body_bytes
    for i, index in indexes:
        try:
            row = evaluation.row(index)
        except InvalidCiphertext as error:
            raise CiphertextRefused(f"{field}[{i}].index: {error}") from None
        # Stored ciphertexts have full width: a million tiny numbers need the space of a million ciphertexts.
        free -= len(row)
        if free < 0:
            raise TooLarge(
                f"the ciphertexts of the request need more than {settings.max_body_bytes} bytes at their full width "
                "(max_body_bytes): send fewer"
            )
        yield row


def check_width(evaluation: Evaluation, binding: Binding, row: bytes, where: str) -> None:
    """Raises `CiphertextRefused` for a row whose length differs from the binding's."""
    if binding.row_bytes is not None and len(row) != binding.row_bytes:
        stored = len(evaluation.index(bytes(binding.row_bytes)))
        raise CiphertextRefused(
            f"{where}.index has {len(evaluation.index(row))} ciphertexts, expected {stored} "
            "as in the first index of this context in the knowledge base"
        )
