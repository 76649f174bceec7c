"""Rescoring: ranks the candidates of a search by the cosine similarity of their vectors' copies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, UnknownContent, shown_ids
from xtrace_sdk.x_vec.chunks.vector_copies import cosine_similarities
from xtrace_sdk.x_vec.retrievers.contents import Decrypted


def rescored(query: NDArray[np.float32], candidates: Sequence[Decrypted]) -> list[tuple[Decrypted, float]]:
    """Returns the candidates with their cosine similarity to the query, most similar first; ties keep their order.

    Raises `InvalidArgument`, which names candidates without a copy of their vector, and `UnknownContent` for a copy
    whose length differs from the query's.
    """
    if not candidates:
        return []
    similarities = cosine_similarities(query, np.stack(_copies(candidates, len(query))))
    order = np.argsort(-similarities, kind="stable").tolist()
    return [(candidates[i], float(similarities[i])) for i in order]


def _copies(candidates: Sequence[Decrypted], dim: int) -> list[NDArray[Any]]:
    without = sorted(one.chunk["chunk_id"] for one in candidates if one.vector_copy is None)
    if without:
        raise InvalidArgument(
            f"chunks {shown_ids(without)} have no copy of their vector, which rescoring needs: search without rescore, "
            'or load them again with DataLoader(…, vector_copy="int8") and delete the chunks that `superseded` lists'
        )
    copies = [(one.chunk["chunk_id"], one.vector_copy) for one in candidates if one.vector_copy is not None]
    for chunk_id, copy in copies:
        if len(copy) != dim:
            raise UnknownContent(
                f"chunk {chunk_id}: the copy of its vector has {len(copy)} elements, expected {dim}: "
                "it was written by other software; replace or delete the chunk"
            )
    return [copy for _, copy in copies]
