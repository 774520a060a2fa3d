"""Kill points: named places of a run where a process can be told to end, stop or hang.

The engine knows nothing of them: in the processes of the fault tests, `install` wraps the functions at these places. A
point is armed by a file of its name in the folder, or of a feed's name and its own with a hyphen; whoever removes the
file acts, so that each arming acts once.
"""

import functools
import os
import select
import signal
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import structlog

# Where each point is: module, function (or class and method), and whether it comes before or after the call, or only
# after the later calls of one object's method.
PLACES: Final[dict[str, tuple[str, str, Literal["before", "after", "later"]]]] = {
    "claimed": ("ingestion.claims", "claim", "after"),
    "fetching": ("ingestion.http.client", "Client.request", "before"),
    "fetched": ("ingestion.http.client", "Client.request", "after"),
    "copying": ("ingestion.streams", "StringIteratorIO.read", "after"),
    "sending": ("ingestion.streams", "StringIteratorIO.read", "later"),
    "copied": ("ingestion.ledger", "commit", "before"),
    "committing": ("ingestion.ledger", "commit", "after"),
    "committed": ("ingestion.chunks", "load", "after"),
    "ending": ("ingestion.attempts", "end", "before"),
    "slot-started": ("ingestion.slots", "start", "after"),
    "refreshed": ("ingestion.auth.oauth", "_asked", "after"),
    "acknowledging": ("ingestion.pipeline", "advance", "after"),
}
# By then the server has lines of the stream, and locks their keys: psycopg2 sends what it read when it reads again.
LATER: Final = 3

_swollen: list[bytes] = []


def install(folder: str) -> None:
    """Wrap every place; each looks for its file at every call."""
    for name, (module, path, when) in PLACES.items():
        *owners, function = path.split(".")
        owner = functools.reduce(getattr, owners, import_module(module))
        setattr(owner, function, _watched(getattr(owner, function), Path(folder, name), when))


def sleep_in_a_select() -> None:
    """Let `time.sleep` end with a clock of libfaketime: that takes the monotonic end of clock_nanosleep for a date."""
    time.sleep = lambda seconds: select.select((), (), (), seconds)


def _watched(function: Callable[..., Any], file: Path, when: str) -> Callable[..., Any]:
    calls: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            _look(file)
        returned = function(*args, **kwargs)
        if when == "later":
            calls[args[0]] = calls.get(args[0], 0) + 1
        if when == "after" or (when == "later" and calls[args[0]] >= LATER):
            _look(file)
        return returned

    return watched


def _look(file: Path) -> None:
    _act(file)
    # Bound in the thread that advances a part, not in the one that fetches for it.
    if feed := structlog.contextvars.get_contextvars().get("feed"):
        _act(file.with_name(f"{feed}-{file.name}"))


def _act(file: Path) -> None:
    """Do what the file says: `kill`, `stop`, `hang SECONDS` or `swell MIB`; `always kill` stays armed."""
    try:
        words = file.read_text().split()
        if words[0] == "always":
            words.pop(0)
        else:
            file.unlink()
    except FileNotFoundError:
        return
    match words:
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["stop"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        case ["hang", seconds]:
            time.sleep(float(seconds))
        case ["swell", mebibytes]:
            # Written to, so that the memory is really there; kept until the process is killed for it.
            _swollen.append(b"x" * (int(mebibytes) * 1024 * 1024))
