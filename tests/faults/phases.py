"""A source that hangs in each phase of a request, or never comes to an end: faults 16 and 18."""

import contextlib
import itertools
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.catalogue import Trial, case
from tests.faults.collection import Collection, Door, serving, told
from tests.faults.killing import RECOVERY_SECONDS, error_of
from tests.faults.surroundings import last
from tests.ingestion.files.servers import certificate
from tests.processes import wait_until
from tests.remote import Raw, Remote, Reply

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Total-Count: 1000\r\n"
# More than the feeds' deadline of 3 s, all in all.
STEPS = 60


def trickled(head: bytes, body: bytes) -> Iterator[bytes]:
    """Yield the head and the start of the body byte by byte, ten a second."""
    yield head
    for byte in body[:STEPS]:
        time.sleep(0.1)
        yield bytes([byte])


# How an answer hangs: nothing at all, half of its headers, half of its body, and each of them a byte at a time.
HANGS = {
    "before the headers": lambda body: Raw([], end="silence"),
    "in the headers": lambda body: Raw([HEAD], end="silence"),
    "in the body": lambda body: Raw([HEAD + b"\r\n", body[: len(body) // 2]], end="silence"),
    "headers byte by byte": lambda body: Raw(trickled(b"", HEAD)),
    "body byte by byte": lambda body: Raw(trickled(HEAD + b"\r\n", body)),
}


def hanging(how: str) -> Callable[[Collection, int], Raw | None]:
    """Hang in the fourth request and in the one after it."""

    def before(source: Collection, number: int) -> Raw | None:
        return HANGS[how](source.body([1, 2, 3])) if number in (4, 5) else None

    return before


@case(16)
def _hangs(trial: Trial) -> None:
    """Answers that hang before the headers, in them and in the body, and such that come a byte at a time."""
    around = trial.around
    source = Collection("hasty", 1_000)
    with serving(around, source), around.workers():
        for how in HANGS:
            around.fresh(hasty=1_000)
            source.asked.clear()
            source.before = hanging(how)
            began = time.monotonic()
            run = trial.trigger("hasty")
            around.verdict(run)
            trial.recovered.append(time.monotonic() - began)
            assert [query["page"] for query in source.asked].count("4") == 3
    assert max(trial.recovered) < RECOVERY_SECONDS


@case(16)
def _no_connection(trial: Trial) -> None:
    """A host that answers no SYN for 4 s, and one that takes connections and says nothing, in HTTP and in TLS."""
    around = trial.around
    pem = certificate(around.folder)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(pem)
    for feed, tls, variable in (("hasty", None, "UNRULY_API_URL"), ("secure", served, "UNRULY_TLS_API_URL")):
        source = Collection(feed, 1_000)
        with Remote(source.answer, tls=tls) as remote:
            door = Door(int(remote.url.rsplit(":", 1)[1]))
            url = f"http{'s' if tls else ''}://127.0.0.1:{door.port}"
            with contextlib.closing(door), told(around, **{variable: url, "UNRULY_CA": str(pem)}), around.workers():
                for how in ("connect", "silence"):
                    around.fresh(**{feed: 1_000})
                    door.fill() if how == "connect" else door.fall_silent()
                    run = trial.trigger(feed)
                    last(4)
                    assert around.read(run) == 0, "somebody got through"
                    door.open()
                    trial.recovered.append(around.recovery_seconds(run))
                    around.verdict(run)
    assert max(trial.recovered) < RECOVERY_SECONDS


@case(16, is_random=True)
def _broken_at_random(trial: Trial) -> None:
    """At random pages an answer that is cut, or hangs in its headers or its body."""
    around = trial.around
    ways = (*HANGS.values(), lambda body: Raw([HEAD + b"Content-Length: 99999\r\n\r\n", body], end="reset"))
    times: list[float] = []

    def before(source: Collection, number: int) -> Raw | None:
        if len(times) >= trial.strikes or trial.chance.random() > 0.2:
            return None
        times.append(time.monotonic())
        return trial.chance.choice(ways)(source.body([1, 2, 3]))

    while len(times) < trial.strikes:
        source = Collection("hasty", 2_000, before=before)
        with serving(around, source), around.workers():
            around.fresh(hasty=2_000)
            run = trial.trigger("hasty")
            around.verdict(run, seconds=240)
            ended = time.monotonic()
        served = times[len(trial.recovered) :]
        trial.recovered += [after - at for at, after in itertools.pairwise([*served, ended])]


# What a source of cursors does that has no end. It has as many records as the feed's 50 pages hold.
RECORDS = 5_000


def same(source: Collection, start: int) -> Reply:
    """Lead from every page to itself."""
    return source.enveloped(source.numbers[start : start + 100], following=start, more=True)


def in_turns(source: Collection, start: int) -> Reply:
    """Lead from one page to another and back."""
    following = 300 if start == 400 else start + 100
    return source.enveloped(source.numbers[start : start + 100], following=following, more=True)


def empty_with_more(source: Collection, start: int) -> Reply:
    """Say that more follows an empty page, and not where."""
    if start < 400:
        return source.enveloped(source.numbers[start : start + 100], following=start + 100, more=True)
    return source.enveloped([], following=None, more=True)


def endless(source: Collection, start: int) -> Reply:
    """Go on for ever, with records that nobody has seen before."""
    return source.enveloped(list(range(start + 1, start + 101)), following=start + 100, more=True)


# Each with the reason, what proves it, and the most pages that are asked for.
ENDLESS = (
    (same, "pagination_loop", "after=0", 3),
    (in_turns, "pagination_loop", "after=300", 15),
    (empty_with_more, "has_more", "after=400", 5),
    (endless, "too_many_pages", "50 pages", 50),
)


def leading(lead: Callable[[Collection, int], Reply], misleads: threading.Event) -> Callable[[Collection, int], Any]:
    """Answer with what `lead` makes of a page, as long as it misleads."""
    return lambda source, _: lead(source, int(source.asked[-1].get("after", "0"))) if misleads.is_set() else None


@case(18, quick=1)
def _no_end(trial: Trial) -> None:
    """Cursors: the same, two in turns, more after an empty page, no end: failed with proof, within 50 pages."""
    around = trial.around
    source, misleads = Collection("cursors", RECORDS), threading.Event()
    with serving(around, source), around.workers():
        for lead, code, proof, most in ENDLESS:
            around.fresh(cursors=RECORDS)
            source.asked.clear()
            source.before = leading(lead, misleads)
            misleads.set()
            run = trial.trigger("cursors")
            wait_until(lambda run=run: around.has_ended(run), what=f"the failure with {code}")
            error = error_of(around, run)
            assert around.state(run) == "failed", around.state(run)
            assert code in error, error
            assert proof in error, error
            assert len(source.asked) <= most, f"{len(source.asked)} pages"
            trial.notes.append(f"{len(source.asked)} pages: {error}")
            misleads.clear()
            good = trial.trigger("cursors")
            around.verdict(good)
