"""What must stay with the client, as bytes to look for: everything that a test marks is listed here once."""

import json
from collections.abc import Iterable, Mapping

import numpy as np

from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


def key_marks(*contexts: ExecutionContext) -> dict[str, bytes]:
    """Every secret of the contexts: as bytes, in hexadecimal and in decimal."""
    marks: dict[str, bytes] = {}
    for number, context in enumerate(contexts):
        secret = {name: value for name, value in context._keys.secret().items() if isinstance(value, str)}
        secret.pop("replaced", None)  # the id of a context, which everybody may know
        for name, value in secret.items():
            if name == "sk":
                marks |= {f"{number} sk {key}": str(integer).encode() for key, integer in json.loads(value).items()}
                continue
            marks[f"{number} {name}"] = bytes.fromhex(value if len(value) % 2 == 0 else "0" + value)
            marks[f"{number} {name} in hexadecimal"] = value.encode()
            marks[f"{number} {name} in decimal"] = str(int(value, 16)).encode()
        if isinstance(context._keys.homomorphic, LatticeClient):
            derived = context._keys.homomorphic._keys.record_keys()
            marks |= {f"{number} key of records {i}": key for i, key in enumerate(derived)}
    return marks


def text_marks(texts: Mapping[str, str]) -> dict[str, bytes]:
    """The texts, and alone each word so long that no program has it by chance."""
    words = {word for text in texts.values() for word in text.split() if len(word) > 9}
    return {name: text.encode() for name, text in texts.items()} | {f"word {word}": word.encode() for word in words}


async def vector_marks(texts: Iterable[str], embedding: Embedding, *contexts: ExecutionContext) -> dict[str, bytes]:
    """The vectors of the texts in the forms in which a program has them: floats, bits, bytes, JSON, encoded."""
    marks = {}
    for text in texts:
        bits = np.asarray(await embedding.bin_embed(text), dtype=np.uint8)
        marks[f"floats of {text}"] = (await embedding.embed(text))[:8].tobytes()
        marks[f"bits of {text}"] = np.packbits(bits).tobytes()
        marks[f"bits of {text}, last first"] = np.packbits(bits, bitorder="little").tobytes()
        marks[f"bytes of {text}"] = bits[:64].tobytes()
        for separator in ("", ",", ", "):
            marks[f"digits of {text}, {separator!r}"] = separator.join(map(str, bits[:64])).encode()
        for number, context in enumerate(contexts):
            if isinstance(context._keys.homomorphic, LatticeClient):
                continue  # its plaintexts are the bits, last first
            for part, rows in enumerate(context.homomorphic._encoding.encode(bits[None])):  # type: ignore[attr-defined]
                marks[f"{number} encoded {text} {part}"] = rows[0].tobytes().rstrip(b"\0")
    return marks
