"""A private chat over a folder of text files: `python chat.py FOLDER`, then one question a line."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from xtrace_sdk import Hit, PassphraseKeyProvider, Record
from xtrace_sdk.sync import Collection, Embedding, ExecutionContext, InferenceClient, XTraceIntegration

PASSAGES = 5


def main() -> None:
    folder = Path(sys.argv[1])
    with open_collection() as (notes, model):
        notes.upsert(paragraphs(folder))
        print(f"{notes.count()} passages are stored. Ask, or press Ctrl-D.")
        for question in map(str.strip, sys.stdin):
            if question:
                print(answer(question, notes, model))


def paragraphs(folder: Path) -> Iterator[Record]:
    """Every paragraph of the folder's text files. Its id is its place, so a second run replaces it."""
    for file in sorted([*folder.rglob("*.md"), *folder.rglob("*.txt")]):
        source = str(file.relative_to(folder))
        for number, text in enumerate(re.split(r"\n\s*\n", file.read_text()), start=1):
            if text.strip():
                yield Record(f"{source}#{number}", text.strip(), {"source": source, "paragraph": number})


def answer(question: str, notes: Collection, model: InferenceClient) -> str:
    """The model's answer, and the sources that it cites. The model gets the question and these passages alone."""
    hits = notes.search(question, k=PASSAGES)
    passages = "\n\n".join(f"[{number}] {source_of(hit)}\n{hit.record.text}" for number, hit in enumerate(hits, 1))
    text = model.query(question, passages)
    cited = sorted({int(number) for number in re.findall(r"\[(\d+)\]", text)})
    sources = [f"[{number}] {source_of(hits[number - 1])}" for number in cited if 0 < number <= len(hits)]
    return "\n".join([text, *sources])


def source_of(hit: Hit) -> str:
    return f"{hit.record.metadata['source']}, paragraph {hit.record.metadata['paragraph']}"


@contextmanager
def open_collection() -> Iterator[tuple[Collection, InferenceClient]]:
    """The notes, and the language model. `print` says where the model's questions go, before the first one."""
    keys = PassphraseKeyProvider(os.environ["XTRACE_PASSPHRASE"])
    embedding = Embedding("wordllama", "l2_supercat", 256, bits=512)
    context = ExecutionContext.create_or_load(keys, "paillier_lookup", embedding=embedding, path="keys/chat.json")
    credentials = json.loads(Path("xtrace-data/credentials.json").read_text())
    address = os.environ.get("XTRACE_LLM_BASE_URL")
    model = InferenceClient(
        "custom" if address else "ollama", os.environ["XTRACE_LLM_MODEL"], base_url=address, on_disclosure=print
    )
    with XTraceIntegration(**credentials) as xtrace, closing(model):
        yield Collection.open(xtrace, context, "private chat"), model


if __name__ == "__main__":
    main()
