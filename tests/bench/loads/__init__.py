"""What is measured. Each load takes a Job, gets ready (imports, connection), and returns what is then timed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a load is told; it travels as JSON to a process of its own."""

    rows: int
    url: str
    database: dict[str, Any] = field(repr=False)
    table: str
    columns: tuple[str, ...]
    file: str
    scratch: str
    option: str = ""


# The timed part; it returns what is worth noting of the run.
Timed = Callable[[], dict[str, Any] | None]
