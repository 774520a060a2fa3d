"""A source that changes while it is read, or has suddenly little to give: faults 19 and 20."""

import time
from collections.abc import Callable

from tests.faults import oracle, records
from tests.faults.catalogue import Trial, case
from tests.faults.collection import Collection, serving
from tests.faults.killing import error_of
from tests.faults.surroundings import Surroundings
from tests.processes import wait_until

COUNT = "SELECT count(*) FROM {} WHERE source = %s"
GONE = "does not begin with what page"
TABLES = {"mirrored": "faults_record", "replaced": "faults_replaced"}


def sync(trial: Trial, feed: str) -> int:
    """Run a feed to its end."""
    around = trial.around
    run = trial.trigger(feed)
    wait_until(lambda: around.has_ended(run), what=f"the end of {feed}")
    return run


def stored(around: Surroundings, feed: str) -> int:
    [(count,)] = around.query(COUNT.format(TABLES[feed]), feed)
    return int(count)


def every_page(change: Callable[[Collection], None]) -> Callable[[Collection, int], None]:
    """Change the collection before each page from the third to the twelfth."""

    def before(source: Collection, number: int) -> None:
        if 3 <= number <= 12:
            change(source)

    return before


def insert(source: Collection) -> None:
    """Put three records in front that nobody has seen."""
    source.numbers[:0] = range(len(source.numbers) + 1, len(source.numbers) + 4)


def delete(source: Collection) -> None:
    """Take the three records away that are in front."""
    del source.numbers[:3]


def exchange(source: Collection) -> None:
    """Take one record from the front and add another at the end: the total stays."""
    source.numbers.append(max(source.numbers) + 1)
    del source.numbers[0]


def warned(around: Surroundings, run: int) -> str:
    [(warnings,)] = around.query("SELECT warnings FROM ingestion_run WHERE id = %s", run)
    return "; ".join(warnings)


@case(19)
def _inserted(trial: Trial) -> None:
    """Records inserted in front while offsets are counted: each is there once, and the run says what happened."""
    around = trial.around
    source = Collection("offsets", 2_000, before=every_page(insert), tells_total=False)
    with serving(around, source), around.workers():
        around.fresh(offsets=2_000)
        run = sync(trial, "offsets")
        trial.notes.append(warned(around, run))
        assert "begins with a record of page" in warned(around, run)
        around.again.add("offsets")
        around.verdict(run)
        around.again.discard("offsets")
        # What came in front of what was read already is there after the next run.
        sync(trial, "offsets")
        good = sum(not records.is_bad(number) for number in source.numbers)
        assert around.query("SELECT count(*) FROM faults_record") == [(good,)]


@case(19, quick=1)
def _deleted(trial: Trial) -> None:
    """Records deleted in front: the total fails the run; without one, or with as many added, overlapping pages tell."""
    around = trial.around
    for feed, change, said in (("counted", delete, ""), ("lapped", delete, GONE), ("lapped", exchange, GONE)):
        source = Collection(feed, 2_000, before=every_page(change), tells_total=feed == "counted")
        with serving(around, source), around.workers():
            around.fresh(**{feed: 2_000})
            run = sync(trial, feed)
            if said:
                assert around.state(run) == "succeeded", error_of(around, run)
                assert said in warned(around, run), warned(around, run)
            else:
                assert around.state(run) == "failed", around.state(run)
                assert "total" in error_of(around, run), error_of(around, run)
            oracle.check_nothing_left(around)
            trial.notes.append(warned(around, run) or error_of(around, run))


@case(19)
def _late(trial: Trial) -> None:
    """Late records around the watermark of an incremental feed, in no order; the child killed twice in each run."""
    around = trial.around
    # Records that the source shows one run later than others with higher numbers.
    late = {number for number in range(1, 3_001) if number % 1_000 > 910 and number % 7 == 0}
    source = Collection("late", 3_000, latency=0.1)
    with serving(around, source), around.workers() as [worker]:
        around.fresh(late=3_000)
        around.query("UPDATE ingestion_feedstate SET watermark = NULL WHERE name = 'late'")
        for last, shown in ((1_000, 0), (2_000, 1_000), (3_000, 2_000), (3_000, 3_000)):
            source.numbers = [number for number in range(1, last + 1) if number <= shown or number not in late]
            trial.chance.shuffle(source.numbers)
            before, run = len(source.asked), trial.trigger("late")
            for _ in range(2):
                wait_until(lambda before=before: len(source.asked) > before, what="a page that is asked for")
                if not around.has_ended(run) and worker.kill_child():
                    trial.recovered.append(around.recovery_seconds(run))
            wait_until(lambda run=run: around.has_ended(run), what="the end of late")
            assert around.state(run) == "succeeded", error_of(around, run)
            trial.notes.append(f"{around.read(run)} read")
            good = {number for number in source.numbers if not records.is_bad(number)}
            stored = {number for (number,) in around.query("SELECT number FROM faults_record WHERE source = 'late'")}
            assert stored == good, f"lost: {sorted(good - stored)[:5]}, never served: {sorted(stored - good)[:5]}"
            [(watermark,)] = around.query("SELECT watermark FROM ingestion_feedstate WHERE name = 'late'")
            assert watermark == max(good), watermark
        # Later runs read what is new, and not everything.
        assert trial.notes[-1] == f"{sum(number >= 2_900 for number in source.numbers)} read", trial.notes
        oracle.check_nothing_left(around)


@case(20, quick=1)
def _little(trial: Trial) -> None:
    """Mirror and replace: a source with nothing, with an empty list and a total of 0, and with a tenth of the usual."""
    around = trial.around
    for feed in TABLES:
        source = Collection(feed, 2_000)
        with serving(around, source), around.workers():
            around.fresh(**{feed: 2_000})
            around.verdict(sync(trial, feed))
            rows = stored(around, feed)
            everything = source.numbers
            for numbers, tells_total in ([], False), ([], True), (everything[:200], True):
                source.numbers, source.tells_total = numbers, tells_total
                run = sync(trial, feed)
                error = error_of(around, run)
                assert around.state(run) == "failed", around.state(run)
                assert "delete_guard" in error, error
                assert stored(around, feed) == rows, f"{rows - stored(around, feed)} rows are gone"
                trial.notes.append(error)
            source.numbers = everything
            around.verdict(sync(trial, feed))
            assert stored(around, feed) == rows


@case(20)
def _little_and_killed(trial: Trial) -> None:
    """Mirror and replace of a tenth of the usual, the pool child killed twice meanwhile: no row is gone."""
    around = trial.around
    for feed in TABLES:
        source = Collection(feed, 5_000)
        with serving(around, source), around.workers() as [worker]:
            around.fresh(**{feed: 5_000})
            around.verdict(sync(trial, feed))
            rows, everything = stored(around, feed), source.numbers
            source.numbers, source.latency = everything[:500], 0.3
            run = trial.trigger(feed)
            for _ in range(2):
                # The instant of the strike.
                time.sleep(trial.chance.uniform(0, 1))
                wait_until(worker.kill_child, what="a child to kill")
                trial.recovered.append(around.recovery_seconds(run))
            wait_until(lambda run=run: around.has_ended(run), what="the failure")
            assert "delete_guard" in error_of(around, run), error_of(around, run)
            assert stored(around, feed) == rows, f"{rows - stored(around, feed)} rows are gone"
            source.latency, source.numbers = 0, everything
            around.verdict(sync(trial, feed))
