"""Files of every format that can be loaded, made by the libraries of these formats."""

import io
import json
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

from docx import Document
from openpyxl import Workbook
from pptx import Presentation
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

MARKDOWN = "---\ntitle: 'Cooking'\n---\nBefore.\n\n# Soup\nHot.\n\n```\n# no heading\n```\n"
MARKDOWN += "## Tomato *soup*\n\n### Basil\nRed.\n"
RST = "=====\nTitle\n=====\n\nIntro.\n\nPart\n----\n\nText.\n\nOther\n-----\nMore.\n"
HTML = (
    "<html><head><title>My page</title><script>bad()</script><style>x</style></head><body><h1>Top</h1>"
    "<p>Hello <b>bold</b>\n text</p><pre>  a\n    b</pre>"
    "<h2>Sub</h2><table><tr><td>1</td><td>2</td></tr></table></body>"
)
PYTHON = '"""Doc."""\nimport os\n\n@cache\ndef f():\n    pass\n\nclass A:\n    x = 1\n'
_CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="O/c.opf"/></rootfiles></container>'
)
_PACKAGE = (
    '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>'
    'Novel</dc:title></metadata><manifest><item id="a" href="x%20y.xhtml" media-type="application/xhtml+xml"/>'
    '</manifest><spine><itemref idref="a"/></spine></package>'
)


def pdf(*pages: str, password: str = "", title: str = "", outline: dict[str, int] | None = None) -> bytes:
    """A PDF with a line of text on each page."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        if text:
            stream = DecodedStreamObject()
            stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
            page[NameObject("/Contents")] = writer._add_object(stream)
            fonts = DictionaryObject({NameObject("/F1"): font})
            page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    for heading, number in (outline or {}).items():
        writer.add_outline_item(title=heading, page_number=number)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password)
    return written(writer.write)


def docx() -> bytes:
    document = Document()
    document.core_properties.title = "Contract"
    document.add_heading("Terms", 1)
    document.add_paragraph("Pay soon.")
    document.add_heading("Payment", 2)
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Rent", "900"
    return written(document.save)


def pptx() -> bytes:
    presentation = Presentation()
    for title in ("Plan", "Costs"):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        assert slide.shapes.title is not None
        slide.shapes.title.text_frame.text = title
        slide.placeholders[1].text_frame.text = f"About {title}."
    assert presentation.slides[0].notes_slide.notes_text_frame is not None
    presentation.slides[0].notes_slide.notes_text_frame.text = "Speak slowly."
    return written(presentation.save)


def xlsx() -> bytes:
    workbook = Workbook()
    workbook.active.title = "Prices"
    for row in (["name", "price"], ["Tea", 3], [None, None], ["Coffee", 4.5]):
        workbook.active.append(row)
    workbook.create_sheet("Empty")
    return written(workbook.save)


def epub() -> bytes:
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": _CONTAINER,
        "O/c.opf": _PACKAGE,
        "O/x y.xhtml": "<html><head><title>Chapter 1</title></head><body><p>Once upon a time.</p></body></html>",
    }
    return zipped({name: text.encode() for name, text in parts.items()})


def eml() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.org", "bob@example.org", "Invoice é"
    message.set_content("Please pay, é.")
    message.add_attachment(b"x", maintype="application", subtype="zip", filename="x.zip")
    return bytes(message)


def notebook() -> bytes:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Study\n", "Why."]},
        {"cell_type": "code", "metadata": {}, "source": "print(1)", "outputs": [], "execution_count": None},
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


SAMPLES: dict[str, Callable[[], bytes]] = {
    "a.md": MARKDOWN.encode,
    "b.txt": b"Call the bank.\n".strip,
    "c.rst": RST.encode,
    "d.html": HTML.encode,
    "e.csv": b"name;price\nTea;3\nCoffee;4\n".strip,
    "f.tsv": b"name\tprice\nTea\t3\n".strip,
    "g.json": b'[{"a": 1, "b": {"c": [1, 2]}}, {"a": "x"}]'.strip,
    "h.jsonl": b'{"q": "x"}\n\n{"q": "y"}\n'.strip,
    "i.ipynb": notebook,
    "j.py": PYTHON.encode,
    "k.pdf": lambda: pdf("Page one says hello.", "Page two.", title="Book", outline={"Chapter": 1}),
    "l.docx": docx,
    "m.pptx": pptx,
    "n.xlsx": xlsx,
    "o.epub": epub,
    "p.eml": eml,
    "q.sh": b"echo hello\n".strip,
}


def make_samples(folder: Path) -> None:
    """Writes one file of every format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SAMPLES.items():
        (folder / name).write_bytes(make())


def written(save: Callable[[io.BytesIO], object]) -> bytes:
    """What a library saves."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def zipped(entries: dict[str, bytes]) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def changed_part(document: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """A document of Office whose one part was changed."""
    with zipfile.ZipFile(io.BytesIO(document)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert old in entries[part]
    entries[part] = entries[part].replace(old, new, 1)
    return zipped(entries)
