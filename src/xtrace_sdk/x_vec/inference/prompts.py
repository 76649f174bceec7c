"""The prompts before queries and passages that the model cards of well-known models specify."""

from typing import Final, NamedTuple


class Prompts(NamedTuple):
    """The prompts of a model; empty for none."""

    query: str = ""
    passage: str = ""


_REPRESENT: Final = Prompts("Represent this sentence for searching relevant passages: ")
_E5: Final = Prompts("query: ", "passage: ")
_NOMIC: Final = Prompts("search_query: ", "search_document: ")
_ARCTIC_2: Final = Prompts("query: ")

_BY_MODEL: Final = {
    **dict.fromkeys(("mxbai-embed-large", "mxbai-embed-large-v1"), _REPRESENT),
    **dict.fromkeys(("bge-large", "bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5"), _REPRESENT),
    **dict.fromkeys(("e5-small-v2", "e5-base-v2", "e5-large-v2"), _E5),
    **dict.fromkeys(("multilingual-e5-small", "multilingual-e5-base", "multilingual-e5-large"), _E5),
    **dict.fromkeys(("nomic-embed-text", "nomic-embed-text-v1", "nomic-embed-text-v1.5"), _NOMIC),
    **dict.fromkeys((f"snowflake-arctic-embed{size}" for size in ("", "-xs", "-s", "-m", "-l")), _REPRESENT),
    "snowflake-arctic-embed-m-v1.5": _REPRESENT,
    **dict.fromkeys((f"snowflake-arctic-embed{name}" for name in ("2", "-m-v2.0", "-l-v2.0")), _ARCTIC_2),
    **dict.fromkeys(
        ("embeddinggemma", "embeddinggemma-300m"), Prompts("task: search result | query: ", "title: none | text: ")
    ),
}


def prompts_of(model_name: str) -> Prompts:
    """Returns the prompts of a model by its name, ignoring publisher (`owner/name`) and variant (`name:tag`).

    Both are empty for a model that is not in the table.
    """
    name = model_name.rpartition("/")[2].partition(":")[0].lower()
    return _BY_MODEL.get(name, Prompts())
