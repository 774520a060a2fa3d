"""What the fake source serves: records that name their source and number, and carry a hash of themselves. Pure."""

import hashlib
import json
from typing import Any, Final

# Every record with this remainder cannot become a row.
BAD_EVERY: Final = 97


def is_bad(number: int) -> bool:
    return number % BAD_EVERY == 0


def payload(source: str, number: int) -> str:
    return f"{source}-{number}-" + "x" * (number % 61)


def digest(source: str, number: int) -> str:
    return hashlib.sha256(payload(source, number).encode()).hexdigest()


def record(source: str, number: int) -> dict[str, Any]:
    """Return one record; `number` counts from 1."""
    return {
        "source": source,
        "number": number,
        "payload": payload(source, number),
        "hash": digest(source, number),
        "size": "no number" if is_bad(number) else number % 61,
    }


def text(source: str, number: int) -> bytes:
    """Return the record as it is served: the quarantine keeps exactly this."""
    return json.dumps(record(source, number)).encode()
