"""UUIDs, addresses and bytes."""

import base64
import binascii
import ipaddress
import re
from typing import Any, Final
from uuid import UUID

from ingestion.cleaning.decoding import json_type
from ingestion.cleaning.rules import BinaryForm, Column
from ingestion.cleaning.values import Absent, CleanValue, Note, refuse_structure_as_key
from ingestion.errors import RecordRejected

_CANONICAL: Final = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_USUAL: Final = re.compile(
    r"(?:urn:uuid:)?(\{)?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})(?(1)\})",
    re.ASCII | re.IGNORECASE,
)


class Address(str):
    """An address in its shortest form. Not plain text: as a key it is compared with inet, not with text."""

    __slots__ = ()


def clean_uuid(column: Column, absent: Absent, note: Note) -> CleanValue:
    # Text is what is written; a key is compared with the database's, which has no operator for text and uuid.
    is_key = column.is_key

    def clean(value: Any) -> Any:
        if type(value) is UUID:
            value = str(value)
        elif type(value) is not str or not _CANONICAL.fullmatch(value):
            if type(value) is str and not value.strip():
                note("blank")
                return absent()
            value = _canonical(value, column)
            note("form")
        return UUID(value) if is_key else value

    return clean


def _canonical(value: Any, column: Column) -> str:
    found = _USUAL.fullmatch(value.strip()) if type(value) is str else None
    if found is None:
        refuse_structure_as_key(value, column)
        raise RecordRejected("invalid_uuid", field=column.name, detail=f"found {json_type(value)} {str(value)[:50]!r}")
    return "-".join(found.groups()[1:]).lower()


def clean_address(column: Column, absent: Absent, note: Note) -> CleanValue:
    def clean(value: Any) -> Any:
        if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return Address(value)
        text = value.strip() if isinstance(value, str) else None
        if text == "":
            note("blank")
            return absent()
        try:
            # A zone index is of one machine alone, and inet has none.
            address = Address(ipaddress.ip_address(text if text and "%" not in text else ""))
        except ValueError as error:
            refuse_structure_as_key(value, column)
            detail = f"found {json_type(value)} {str(value)[:50]!r}"
            raise RecordRejected("invalid_address", field=column.name, detail=detail) from error
        if address != value:
            note("form")
        return address

    return clean


def clean_binary(column: Column, absent: Absent, note: Note) -> CleanValue:
    encoding = column.form.encoding if isinstance(column.form, BinaryForm) else None

    def clean(value: Any) -> bytes:
        content = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else decode(value)
        if column.max_length is not None and len(content) > column.max_length:
            detail = f"{len(content)} bytes, the column has {column.max_length}"
            raise RecordRejected("too_long", field=column.name, detail=detail)
        if column.is_key and not content:
            raise RecordRejected("missing_key", field=column.name, detail="the key is empty")
        return content

    def decode(value: Any) -> bytes:
        if type(value) is str and encoding:
            try:
                return _decoded(value, encoding)
            except (ValueError, binascii.Error):
                pass
        refuse_structure_as_key(value, column)
        expected = encoding or "bytes"
        raise RecordRejected(
            "invalid_binary", field=column.name, detail=f"expected {expected}, found {json_type(value)}"
        )

    return clean


def _decoded(text: str, encoding: str) -> bytes:
    if encoding == "hex":
        return bytes.fromhex(text)
    if encoding == "base64url":
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    return base64.b64decode(text, validate=True)
