"""A SOAP response to the element that answers: no Fault, no document type, no attachments. Pure, no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Any, Final

from ingestion.errors import RunFailed
from ingestion.http import Response
from ingestion.sources.files.extras import needed
from ingestion.sources.splitting import shown

ENVELOPES: Final = frozenset({"http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The first element of a response's body, and how many attachments came with it."""

    answer: Any
    attachments: int


def open_envelope(response: Response, hide: Callable[[str], str]) -> Opened:
    """Return what answers in a SOAP response; `hide` leaves out of a message what the service was sent.

    Raises:
        RunFailed: `soap_fault`, `xml_dtd`, `not_xml`, `encoding`, `shape` when it is no envelope.
    """
    text, charset, attachments = _root_part(response)
    root = _parse(text, charset)
    body = _child(root, "Body") if _namespace(root) in ENVELOPES and local_name(root) == "Envelope" else None
    if body is None:
        raise RunFailed("shape", f"expected a SOAP envelope, found {shown(text)}")
    answer = next(iter(body), None)
    if answer is None:
        raise RunFailed("shape", "the SOAP envelope has an empty body")
    if local_name(answer) == "Fault" and _namespace(answer) in ENVELOPES:
        raise RunFailed("soap_fault", _reason(answer, hide))
    return Opened(answer=answer, attachments=attachments)


def local_name(element: Any) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _root_part(response: Response) -> tuple[bytes, str | None, int]:
    """Return the XML of a response, its declared charset, and how many parts stand beside it."""
    whole = Message()
    whole["Content-Type"] = response.headers.get("content-type", "text/xml")
    if whole.get_content_type() != "multipart/related":
        return response.body, whole.get_content_charset(), 0
    # RFC 2387: the root is the part that `start` names, or the first one.
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode("latin-1", "replace")
    whole = message_from_bytes(head + response.body)
    parts = [part for part in whole.walk() if not part.is_multipart()] if whole.is_multipart() else []
    if not parts:
        raise RunFailed("not_xml", "a multipart response without parts")
    start = str(whole.get_param("start", "")).strip("<>")
    root = next((part for part in parts if start and str(part["Content-ID"]).strip("<> ") == start), parts[0])
    payload = root.get_payload(decode=True)
    assert isinstance(payload, bytes), "it is no multipart itself"
    return payload, root.get_content_charset(), len(parts) - 1


def _parse(text: bytes, charset: str | None) -> Any:
    etree = needed("lxml.etree", "soap")
    try:
        parser = etree.XMLParser(
            encoding=charset, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
            remove_comments=True, remove_pis=True,
        )  # fmt: skip
    except LookupError as error:
        raise RunFailed("encoding", f"the body cannot be read as the declared {str(charset)[:40]!r}") from error
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        if b"<!DOCTYPE" in text:
            raise _document_type() from error
        raise RunFailed("not_xml", f"line {error.lineno}: {error.msg}; it starts with {shown(text)}") from error
    # SOAP 1.1, 3 and SOAP 1.2, 5: a message has none.
    if root.getroottree().docinfo.doctype:
        raise _document_type()
    return root


def _document_type() -> RunFailed:
    return RunFailed("xml_dtd", "the response has a document type, which may define entities; it is not read")


def _reason(fault: Any, hide: Callable[[str], str]) -> str:
    """Return code and text of a Fault of either version, without what may be a secret."""
    code = _text(fault, "faultcode") or _text(fault, "Code", "Value")
    said = hide(_text(fault, "faultstring") or _text(fault, "Reason", "Text"))
    return f"{shown(said.encode())} ({code[:80]})" if code else shown(said.encode())


def _text(element: Any, *names: str) -> str:
    for name in names:
        element = None if element is None else _child(element, name)
    return "" if element is None else (element.text or "").strip()


def _child(element: Any, name: str) -> Any:
    return next((child for child in element if local_name(child) == name), None)


def _namespace(element: Any) -> str:
    return str(element.tag).rpartition("}")[0].removeprefix("{")
