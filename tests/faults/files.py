"""Files that change while they are read, and connections to their places that end too early: fault 21."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.faults import records
from tests.faults.catalogue import Trial, case
from tests.faults.collection import told
from tests.faults.killing import error_of, resets, strike_until_done
from tests.faults.proxy import Proxy
from tests.faults.surroundings import Surroundings, until_gone
from tests.ingestion.files import servers
from tests.processes import wait_until

RECORDS = 10_000


def lines(feed: str, total: int) -> bytes:
    return b"".join(records.text(feed, number) + b"\n" for number in range(1, total + 1))


@dataclass
class Shelf:
    """A place with one file, which is named after its feed. `proxy` stands before the place's server."""

    feed: str
    folder: Path
    proxy: Proxy | None = None
    bucket: Any = None

    @property
    def path(self) -> Path:
        return self.folder / f"{self.feed}.ndjson"

    def put(self, content: bytes) -> None:
        """Put another file in the place of the one there is."""
        if self.bucket is not None:
            self.bucket.put_object(Key=self.path.name, Body=content)
            return
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        new.rename(self.path)

    def grow(self, content: bytes) -> None:
        """Add to the file where its place can; S3 knows whole objects alone."""
        if self.bucket is not None:
            self.put(content)
            return
        with self.path.open("ab") as file:
            file.write(content[self.path.stat().st_size :])

    def delete(self) -> None:
        if self.bucket is not None:
            self.bucket.Object(self.path.name).delete()
        else:
            self.path.unlink()


@contextlib.contextmanager
def shelf(around: Surroundings, feed: str) -> Iterator[Shelf]:
    """Start the server of a place, and tell the workers that are started meanwhile where it is."""
    for talker in ("pyftpdlib", "werkzeug"):
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    folder = around.folder / f"of-{feed}"
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        place = Shelf(feed, folder)
        if feed == "disk":
            variables = {"UNRULY_FOLDER": str(folder)}
        elif feed == "web":
            remote = stack.enter_context(servers.web(folder))
            place.proxy = Proxy(int(remote.url.rsplit(":", 1)[1]))
            variables = {"UNRULY_API_URL": f"http://127.0.0.1:{place.proxy.port}"}
        elif feed == "ftp":
            # Its data connections have ports of their own, which no proxy stands before.
            variables = {"UNRULY_FTP_PORT": str(stack.enter_context(servers.ftp(folder)))}
        else:
            url = stack.enter_context(servers.s3())
            place.proxy = Proxy(int(url.rsplit(":", 1)[1]))
            variables = {"UNRULY_S3": f"http://127.0.0.1:{place.proxy.port}"}
            store = boto3.resource(
                "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="s3cret"
            )
            place.bucket = store.create_bucket(Bucket="bucket")
        if place.proxy is not None:
            stack.callback(place.proxy.close)
        stack.enter_context(told(around, **variables))
        place.put(lines(feed, RECORDS))
        yield place


def begun(trial: Trial, feed: str) -> int:
    """Return a run that has loaded the first chunk of its file and stands still for a while."""
    around = trial.around
    around.fresh(**{feed: RECORDS})
    point = around.arm(f"{feed}-committed", "hang 3")
    run = trial.trigger(feed)
    until_gone(point)
    around.wait_for(run)
    assert not around.has_ended(run)
    return run


CHANGES: dict[str, Callable[[Shelf], None]] = {
    "replaced": lambda place: place.put(lines(place.feed, RECORDS + 500)),
    "grown": lambda place: place.grow(lines(place.feed, RECORDS + 500)),
    "deleted": lambda place: place.delete(),
}


@case(21)
def _changed_nearby(trial: Trial) -> None:
    """A file on a disk and behind a URL replaced, grown, and deleted and put back while it is read."""
    for feed in ("disk", "web"):
        changes(trial, feed)


@case(21)
def _changed_far_away(trial: Trial) -> None:
    """A file on an FTP server and in S3 replaced, grown, and deleted and put back while it is read."""
    for feed in ("ftp", "bucket"):
        changes(trial, feed)


def changes(trial: Trial, feed: str) -> None:
    """Change a file in each way: the attempt ends with that as its reason, and the next one loads the new file."""
    around = trial.around
    with shelf(around, feed) as place, around.workers():
        for how, change in CHANGES.items():
            place.put(lines(feed, RECORDS))
            run = begun(trial, feed)
            change(place)
            wait_until(lambda run=run: around.state(run) != "running", what=f"the end of the attempt, {how}")
            assert around.state(run) == "waiting", f"{feed} {how}: {around.state(run)} {error_of(around, run)}"
            [(why,)] = around.query("SELECT waiting_for FROM ingestion_part WHERE run_id = %s", run)
            trial.notes.append(f"{how}: {why}")
            around.totals[feed] = RECORDS + 500
            around.again.add(feed)
            if how == "deleted":
                place.put(lines(feed, RECORDS + 500))
            around.verdict(run, seconds=90)
            around.again.discard(feed)


@case(21, quick=1)
def _cut_without_a_226(trial: Trial) -> None:
    """FTP data connections cut without a 226, in mid-file and behind its last byte: read on where they broke."""
    around = trial.around
    size = len(lines("ftp", RECORDS))
    with shelf(around, "ftp"), around.workers():
        around.fresh(ftp=RECORDS)
        servers.CuttingData.cuts = [200_000, 0, 700_000, size - 900_000]
        run = trial.trigger("ftp")
        around.verdict(run)
        assert servers.CuttingData.cuts == [], "not every cut was made"


@case(21, is_random=True)
def _cut_at_random(trial: Trial) -> None:
    """Connections to files on HTTP and S3 reset at random instants, every other time new ones are refused for 1 s."""
    around = trial.around
    half = trial.strikes // 2
    for feed, strikes in (("web", half), ("bucket", trial.strikes - half)):
        with shelf(around, feed) as place, around.workers():
            assert place.proxy is not None
            place.proxy.manners.limit = 400_000
            strike = resets(trial, place.proxy, refused_seconds=1)
            strike_until_done(trial, strike, feed=feed, records=RECORDS, strikes=strikes)
