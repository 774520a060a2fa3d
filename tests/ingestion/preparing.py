"""Pages to COPY text in both ways, and back: what the tests of preparation share."""

import json

from ingestion.cleaning import Column
from ingestion.http import Response
from ingestion.preparation import Preparer
from ingestion.sources import split_records
from ingestion.types import Page

COLUMNS = (
    Column(name="id", kind="integer", path=("id",), is_key=True, limits=(-(2**63), 2**63 - 1)),
    Column(name="title", kind="text", path=("title",), max_length=20),
    Column(name="note", kind="text", path=("note",), null=True),
    Column(name="rank", kind="integer", path=("rank",), limits=(0, 32767), default=7),
    Column(name="flag", kind="boolean", path=("flag",), null=True),
    Column(name="colour", kind="text", path=("colour",), choices=frozenset({"red", "blue"}), default="red"),
    Column(name="raw", kind="json", path=None),
)


NESTED = (
    Column(name="id", kind="integer", path=("meta", "id"), is_key=True),
    Column(name="city", kind="text", path=("user", "address", "city"), null=True),
    Column(name="zip", kind="text", path=("user", "address", "zip"), default=""),
    Column(name="name", kind="text", path=("user", "name"), null=True),
)


def prepare(body: bytes, *, slowly: bool = False, columns=COLUMNS):
    preparer = Preparer(columns)
    if slowly:
        preparer._encode_group = None
    records = split_records(Response(status=200, headers={}, body=body), ())
    return preparer(Page(number=1, records=records, size_bytes=len(body), following=None))


def rows(prepared, *, ends_in_json=True):
    """Read the lines back into values; JSON as what it means, booleans as the database takes them."""
    plain = {"\\\\": "\\", r"\n": "\n", r"\t": "\t", r"\r": "\r"}
    found = []
    for line in "".join(prepared.lines).split("\n")[:-1]:
        values = []
        for value in line.split("\t"):
            pieces = value.split("\\\\")
            for escaped in (r"\n", r"\t", r"\r"):
                pieces = [piece.replace(escaped, plain[escaped]) for piece in pieces]
            values.append(None if value == r"\N" else "\\".join(pieces))
        if ends_in_json and values[-1] is not None:
            values[-1] = json.loads(values[-1])
        found.append(values)
    return found


def same(body: bytes, columns=COLUMNS):
    fast, slow = prepare(body, columns=columns), prepare(body, slowly=True, columns=columns)
    ends_in_json = columns[-1].kind == "json"
    assert rows(fast, ends_in_json=ends_in_json) == rows(slow, ends_in_json=ends_in_json)
    assert fast.keys == slow.keys
    assert fast.positions == slow.positions
    assert fast.rejections == slow.rejections
    assert fast.coercions == slow.coercions
    assert (fast.read, fast.skipped) == (slow.read, slow.skipped)
    return fast


def dumps(page, **options):
    """JSON text as a careless server writes it, but without NaN and Infinity, which make the page no JSON at all."""
    return (
        json.dumps(page, **options)
        .replace("NaN", "0.5")
        .replace("-Infinity", "1e400")
        .replace("Infinity", "1e400")
        .encode()
    )


def clean_record(number, **changes):
    return {"id": number, "title": f"title {number}", "note": None, "rank": 1, "flag": True, "colour": "blue"} | changes
