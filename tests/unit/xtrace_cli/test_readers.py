"""What the readers make of a file of each format: its text, and where it stands."""

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.sample_files import SAMPLES, changed_part, docx, eml, epub, pdf, pptx, xlsx, zipped
from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.formats import all_suffixes, format_of
from xtrace_cli.documents.readers import archives
from xtrace_cli.documents.records import Chunk
from xtrace_cli.documents.sections import Section, Source, UnusableFile
from xtrace_cli.documents.splitting import Splitting


@pytest.fixture(autouse=True)
def quiet_libraries() -> Iterator[None]:
    """Readers run where warnings are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def chunks(name: str, data: bytes, size: int = 900, overlap: int = 0) -> list[Chunk]:
    form = format_of(Path(name))
    assert form is not None
    return list(Splitting(size, overlap).chunks(form.load_reader()(Source(data, name))))


def found(name: str, data: bytes | None = None) -> list[tuple[str, str, str]]:
    """Title, place and text of each chunk."""
    made = chunks(name, SAMPLES[name]() if data is None else data)
    return [(one.place.title, str(one.place), one.text) for one in made]


EXPECTED = {
    "a.md": [
        ("Cooking", "lines 1-4", "---\ntitle: 'Cooking'\n---\nBefore."),
        ("Cooking", "lines 6-11, Soup", "# Soup\nHot.\n\n```\n# no heading\n```"),
        ("Cooking", "lines 12-15, Soup > Tomato soup > Basil", "## Tomato *soup*\n\n### Basil\nRed."),
    ],
    "b.txt": [("", "line 1", "Call the bank.")],
    "c.rst": [
        ("Title", "lines 1-5, Title", "=====\nTitle\n=====\n\nIntro."),
        ("Title", "lines 7-10, Title > Part", "Part\n----\n\nText."),
        ("Title", "lines 12-14, Title > Other", "Other\n-----\nMore."),
    ],
    "d.html": [
        ("My page", "Top", "Top\n\nHello bold text\n\n  a\n    b"),
        ("My page", "Top > Sub", "Sub\n\n| 1 | 2"),
    ],
    "e.csv": [("", "rows 2-3", "name: Tea; price: 3\nname: Coffee; price: 4")],
    "f.tsv": [("", "row 2", "name: Tea; price: 3")],
    "g.json": [("", "rows 1-2", "a: 1; b.c: 1, 2\na: x")],
    "h.jsonl": [("", "rows 1-3", "q: x\nq: y")],
    "i.ipynb": [("Study", "cell 1, Study", "# Study\nWhy."), ("Study", "cell 2, Study", "print(1)")],
    "j.py": [
        ("", "lines 1-2", '"""Doc."""\nimport os'),
        ("", "lines 4-6, f()", "@cache\ndef f():\n    pass"),
        ("", "lines 8-9, class A", "class A:\n    x = 1"),
    ],
    "k.pdf": [("Book", "page 1", "Page one says hello."), ("Book", "page 2, Chapter", "Page two.")],
    "l.docx": [
        ("Contract", "Terms", "Terms\n\nPay soon."),
        ("Contract", "Terms > Payment", "Payment\n\nRent | 900"),
    ],
    "m.pptx": [
        ("", "page 1, Plan", "Plan\nAbout Plan.\nSpeak slowly."),
        ("", "page 2, Costs", "Costs\nAbout Costs."),
    ],
    "n.xlsx": [("", "sheet Prices, rows 2-4", "name: Tea; price: 3\nname: Coffee; price: 4.5")],
    "o.epub": [("Novel", "Chapter 1", "Once upon a time.")],
    "p.eml": [("Invoice é", "", "From: ada@example.org\nTo: bob@example.org\nSubject: Invoice é\n\nPlease pay, é.")],
    "q.sh": [("", "line 1", "echo hello")],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_each_format_is_read_with_its_structure(name: str) -> None:
    assert found(name) == EXPECTED[name]


def test_every_suffix_leads_to_a_reader_that_is_there() -> None:
    for suffix in all_suffixes():
        form = format_of(Path(f"x{suffix}"))
        assert form is not None
        assert callable(form.load_reader())
    assert format_of(Path("README")) == format_of(Path("x.txt"))
    assert format_of(Path("x.png")) is None
    assert format_of(Path("picture")) is None


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("x.txt", lambda: b"a\0b", "NUL characters"),
        ("x.txt", lambda: b"\0\1", "NUL characters"),
        ("x.json", lambda: b"{", "not valid JSON"),
        ("x.json", lambda: b"[" * 100_000, "nests too deeply"),
        ("x.jsonl", lambda: b'{"a": 1}\n{"a', "line 2 is not valid JSON"),
        ("x.ipynb", lambda: b"{}", "not a notebook"),
        ("x.csv", lambda: b'a\n"' + b"x" * ((1 << 24) + 1), "not valid CSV"),
        ("x.pdf", lambda: b"hello", "damaged"),
        ("x.pdf", lambda: b"", "damaged"),
        ("x.pdf", lambda: pdf("", ""), "2 pages have no text"),
        ("x.pdf", lambda: pdf("text", password="secret"), "encrypted with a password"),
        ("x.docx", lambda: b"PK\3\4hello", "damaged"),
        ("x.docx", lambda: b"\xd0\xcf\x11\xe0" * 99, "encrypted with a password, or in an older format"),
        ("x.docx", lambda: zipped({"a": b"b"}), "damaged, or in another format"),
        ("x.docx", lambda: changed_part(docx(), "word/document.xml", b"<w:body>", b"<w:body"), "damaged"),
        ("x.pptx", lambda: b"", "damaged"),
        ("x.xlsx", lambda: b"", "damaged"),
        ("x.epub", lambda: zipped({"META-INF/container.xml": b"<a"}), "XML is not valid"),
        ("x.epub", lambda: zipped({"a": b""}), "a part of the book is missing"),
        ("x.eml", lambda: b"", "no sender"),
        ("x.eml", lambda: b"Subject: a\nContent-Type: text/plain; charset=utf-16\n\nx", "it is not valid utf-16"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_reason(name: str, make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(UnusableFile, match=reason):
        chunks(name, make())


def test_an_archive_is_not_unpacked_that_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(UnusableFile, match="unpacks to more than 1 MiB or 20000 entries"):
        chunks("x.docx", zipped({"word/document.xml": b"\0" * ((1 << 20) + 1)}))
    monkeypatch.setattr(archives, "MAX_ENTRIES", 9)
    with pytest.raises(UnusableFile, match="1 MiB or 9 entries"):
        chunks("x.docx", zipped({str(i): b"" for i in range(10)}))


def test_entities_of_xml_are_not_expanded() -> None:
    entities = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
    page = b"<html><body><p>x &b; &a; y</p></body></html>"
    book = changed_part(epub(), "O/c.opf", b"<package", entities + b"<package")
    book = changed_part(book, "O/c.opf", b"Novel", b"Novel&b;&a;")
    made = chunks("x.epub", changed_part(book, "O/x y.xhtml", b"<html>", entities + page))
    assert all("root:" not in one.text + one.place.title for one in made)
    assert made[0].place.title == "Novel"


def test_text_in_every_encoding_is_read_whole_or_refused() -> None:
    text = "The café sells crème brûlée.\r\nYes.\rNo."
    read = text.replace("\r\n", "\n").replace("\r", "\n")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252"):
        source = Source(text.encode(encoding), "x.txt")
        assert text_of(source) == read
        assert bool(source.notes) == (encoding in ("utf-16-le", "utf-16-be", "cp1252"))
    assert text_of(Source("plain".encode("utf-16-be"), "x.txt")) == "plain"
    assert text_of(Source(bytes(range(1, 256)), "x.txt")) == bytes(range(1, 256)).decode("latin-1").replace("\r", "\n")
    assert text_of(Source("Привет".encode("koi8-r"), "x.txt", "koi8-r")) == "Привет"
    refused: list[tuple[bytes, str | None]] = [
        (b"\xff\xfea", None),
        (b"\xef\xbb\xbf\xff", None),
        ("é".encode("latin-1"), "utf-8"),
    ]
    for damaged, named in refused:
        with pytest.raises(UnusableFile, match="it is not valid utf"):
            text_of(Source(damaged, "x.txt", named))


def test_a_page_and_a_module_may_name_their_encoding() -> None:
    page = '<meta charset="koi8-r"><p>Привет'.encode("koi8-r")
    assert chunks("x.html", page)[0].text == "Привет"
    module = "# -*- coding: koi8-r -*-\nx = 'Привет'\n".encode("koi8-r")
    assert "Привет" in chunks("x.py", module)[0].text


def test_notes_say_what_was_left_out() -> None:
    for name, data, note in (
        ("x.eml", eml(), "attachments that were left out: 1"),
        ("x.pdf", pdf("text", ""), "1 of 2 pages without text"),
    ):
        source = Source(data, name)
        form = format_of(Path(name))
        assert form is not None
        assert list(form.load_reader()(source))
        assert note in source.notes[0]


def test_shapes_in_groups_and_single_rows_are_read() -> None:
    group = b"<p:grpSp><p:nvGrpSpPr><p:cNvPr id='90' name='g'/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>"
    shape = (
        b"<p:sp><p:nvSpPr><p:cNvPr id='91' name='s'/><p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/>"
        b"<a:p><a:r><a:t>Inside.</a:t></a:r></a:p></p:txBody></p:sp></p:grpSp></p:spTree>"
    )
    made = chunks("x.pptx", changed_part(pptx(), "ppt/slides/slide1.xml", b"</p:spTree>", group + shape))
    assert "Inside." in made[0].text
    rows = changed_part(xlsx(), "xl/worksheets/sheet1.xml", b"<sheetData>", b"<sheetData><row r='0'></row>")
    assert chunks("x.xlsx", rows)[0].place.sheet == "Prices"


# Splitting


def test_chunks_hold_everything_in_order_and_fit() -> None:
    text = "\n\n".join(f"Paragraph {n} says something. " * (n % 7 + 1) for n in range(300))
    for overlap in (0, 60):
        made = list(Splitting(200, overlap).chunks([Section(text, line=1)]))
        assert all(len(one.text) <= 200 for one in made)
        words, position = text.split(), 0
        for one in made:
            own = one.text.split()
            if overlap == 0:
                assert words[position : position + len(own)] == own
                position += len(own)
        assert overlap or position == len(words)
        lines = text.split("\n")
        for one in made:
            first, _, last = one.place.lines.partition("-")
            assert one.text in "\n".join(lines[int(first) - 1 : int(last or first)])


def test_long_lines_are_split_in_linear_time() -> None:
    made = list(Splitting().chunks([Section("x" * 100_000, line=1)]))
    assert "".join(one.text for one in made) == "x" * 100_000
    assert {one.place.lines for one in made} == {"1"}


def test_rows_are_put_together_while_they_fit_and_long_ones_split() -> None:
    rows = [Section(f"row {n}", row=n) for n in range(1, 41)] + [Section("long " * 60, row=41), Section("end", row=42)]
    made = list(Splitting(100).chunks(rows))
    assert re.fullmatch(r"1-\d+", made[0].place.row)
    assert [one.place.row for one in made[-2:]] == ["41", "42"]
    assert all(len(one.text) <= 100 for one in made)
    assert "".join(one.text for one in made).count("row ") == 40
