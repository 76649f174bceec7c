"""E-mail messages: who wrote what to whom. Attachments are skipped."""

from collections.abc import Iterator
from email.message import MIMEPart
from email.parser import BytesParser
from email.policy import default

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.readers.html import sections_of
from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Section, Source, UnusableFile, short

_PARSER = BytesParser(policy=default)
_HEADERS = ("From", "To", "Cc", "Date", "Subject")


def read(source: Source) -> Iterator[Section]:
    """Yields the important headers with the text or, for an HTML-only message, its sections."""
    try:
        message = _PARSER.parsebytes(source.data)
        head = "\n".join(f"{name}: {short(str(message[name]))}" for name in _HEADERS if message[name])
        title = short(str(message["Subject"] or ""))
        body = message.get_body(preferencelist=("plain", "html"))
        content = _content(source, body)
        attachments = sum(1 for _ in message.iter_attachments()) if message.is_multipart() else 0
    except RecursionError:
        raise UnusableFile("it nests too deeply") from None
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise UnusableFile(f"it is not a valid message: {type(error).__name__}") from None
    if not head:
        raise UnusableFile("it is not a valid message: it has no sender, recipient, date or subject")
    if attachments:
        source.notes.append(f"has attachments that were left out: {attachments}")
    if body is None or body.get_content_type() != "text/html":
        yield Section(f"{head}\n\n{content}", Place(title=title))
        return
    yield Section(head, Place(title=title))
    for section in sections_of(content):
        yield Section(section.text, Place(title=title, heading=section.place.heading))


def _content(source: Source, body: MIMEPart | None) -> str:
    # Not `get_content`, which replaces bytes that are not valid in the encoding.
    data = None if body is None else body.get_payload(decode=True)
    if body is None or not isinstance(data, bytes):
        return ""
    return text_of(Source(data, source.name, source.encoding, source.notes), body.get_content_charset())
