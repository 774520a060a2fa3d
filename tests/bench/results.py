"""What came out: medians of samples, and the figures that have to be reached. Pure, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.contenders import REMOTE_MS, Contender
from tests.bench.measuring import Sample

MEBIBYTE = 1024 * 1024


@dataclass(kw_only=True)
class Result:
    """A contender's samples, or why it has none."""

    contender: Contender
    rows: int
    samples: list[Sample] = field(default_factory=list)
    problem: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether it took part and did not end as it should, which is a defect; others merely cannot take part."""
        return self.problem.startswith("failed")

    @property
    def is_measured(self) -> bool:
        return bool(self.samples) and not self.problem

    def median(self, name: str) -> float:
        return median(getattr(sample, name) for sample in self.samples)

    @property
    def seconds(self) -> float:
        return self.median("seconds")

    @property
    def rate(self) -> float:
        return self.rows / self.seconds

    def as_json(self, floor: "Result | None") -> dict[str, Any]:
        shown = {"name": self.contender.name, "rows": self.rows, "input": self.contender.source}
        if self.problem:
            return shown | {"problem": self.problem, "failed": self.has_failed}
        medians = {name: self.median(name) for name in ("seconds", "cpu_seconds", "peak_bytes", "process_seconds")}
        ratio = self.seconds / floor.seconds if floor and floor.is_measured else None
        return shown | medians | {
            "rows_per_second": self.rate,
            "floor": self.contender.floor,
            "times_floor": ratio,
            "samples": [vars(sample) for sample in self.samples],
        }  # fmt: skip


Results = Mapping[str, Result]


class NotMeasured(Exception):
    """A figure needs a contender that has no result; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that has to be reached: at most `must`, or at least where `at_least`. Without a `must`, `why` not."""

    name: str
    must: float | None
    aim: float | None
    value: Callable[[Results], float]
    unit: str = "×"
    at_least: bool = False
    exact: bool = False
    why: str = ""

    def is_reached(self, value: float) -> bool | None:
        if self.must is None:
            return None
        if self.exact:
            return value == self.must
        return value >= self.must if self.at_least else value <= self.must


def found(results: Results, name: str) -> Result:
    result = results.get(name)
    if result is None:
        raise NotMeasured(f"{name}: left out")
    if not result.is_measured:
        raise NotMeasured(f"{name}: {result.problem.splitlines()[0] if result.problem else 'no sample'}")
    return result


def ratio(of: str, to: str, what: str = "seconds") -> Callable[[Results], float]:
    """Return a function that divides two contenders' medians."""
    return lambda results: found(results, of).median(what) / found(results, to).median(what)


def rate_against(of: str, *others: str) -> Callable[[Results], float]:
    """Return a function that divides a contender's rows per second by those of the fastest of the others."""
    return lambda results: found(results, of).rate / max(found(results, other).rate for other in others)


def _share_written(results: Results) -> float:
    """Return the share of rows for which a tuple was written, in percent: of all samples the one farthest from 1."""
    changed = found(results, "engine upsert, 1 % changed")
    shares = [100 * sum(sample.written.values()) / changed.rows for sample in changed.samples]
    return max(shares, key=lambda share: abs(share - 1))


def _bookkeeping(of: str) -> Callable[[Results], float]:
    """Return a function that gives the share of a run that it takes to be durable, in percent."""
    return lambda results: median(
        100 * sample.notes["bookkeeping_seconds"] / sample.seconds for sample in found(results, of).samples
    )


def _more_memory(of: str, than: str) -> Callable[[Results], float]:
    return lambda results: (
        (found(results, of).median("peak_bytes") - found(results, than).median("peak_bytes")) / MEBIBYTE
    )


_UPSERT, _APPEND = "engine upsert", "engine append"

FIGURES = (
    Figure(name="append, HTTP to table, against the floor", must=1.15, aim=1.05, value=ratio(_APPEND, "floor")),
    Figure(
        name="first upsert, against the floor with the unique key",
        must=1.4,
        aim=1.15,
        value=ratio(_UPSERT, "floor, unique key"),
    ),
    Figure(
        name="identical second upsert, against the first",
        must=0.8,
        aim=0.5,
        value=ratio("engine upsert, identical", _UPSERT),
    ),
    Figure(
        name="the same with unchanged pages skipped",
        must=0.3,
        aim=0.15,
        value=ratio("engine upsert, unchanged pages skipped", _UPSERT),
    ),
    Figure(name="tuples written when 1 % changed", must=1, aim=None, value=_share_written, unit="%", exact=True),
    Figure(
        name="worker CPU of append, against the bare loop",
        must=0.6,
        aim=0.35,
        value=ratio(_APPEND, "bare loop", "cpu_seconds"),
    ),
    Figure(
        name=f"two workers on two parts, against one, from a remote of {REMOTE_MS} ms a page",
        must=1.4,
        aim=1.8,
        value=ratio(
            f"engine parts, 1 worker, {REMOTE_MS} ms a page", f"engine parts, 2 workers, {REMOTE_MS} ms a page"
        ),
        at_least=True,
    ),
    Figure(
        name="the same from loopback",
        must=None,
        aim=None,
        value=ratio("engine parts, 1 worker", "engine parts, 2 workers"),
        why="not judged: one worker, PostgreSQL and the API fill two cores by themselves",
    ),
    Figure(
        name="rows/s of append against dlt, the faster of its two formats",
        must=8,
        aim=12,
        value=rate_against(_APPEND, "dlt insert_values", "dlt csv"),
        at_least=True,
    ),
    Figure(
        name="rows/s of append against bulk_create, the faster of both",
        must=12,
        aim=18,
        value=rate_against(_APPEND, "article bulk_create", "article bulk_create_db"),
        at_least=True,
    ),
    Figure(
        name="rows/s of append against sling (JSON lines)",
        must=1.5,
        aim=2,
        value=rate_against(_APPEND, "sling"),
        at_least=True,
    ),
    *(
        Figure(
            name=f"rows/s of {source} against REST",
            must=0.7,
            aim=None,
            value=rate_against(f"{_APPEND}, {source}", _APPEND),
            at_least=True,
        )
        for source in ("GraphQL", "CSV", "CSV from S3")
    ),
    Figure(
        name="peak memory of append, × 10 rows against × 0.1",
        must=8,
        aim=2,
        value=_more_memory(f"{_APPEND}, × 10", f"{_APPEND}, × 0.1"),
        unit="MiB",
    ),
    Figure(
        name="peak memory of upsert, × 10 rows against × 0.1",
        must=8,
        aim=2,
        value=_more_memory(f"{_UPSERT}, × 10", f"{_UPSERT}, × 0.1"),
        unit="MiB",
    ),
    Figure(name="time of append, × 10 rows", must=10.5, aim=None, value=ratio(f"{_APPEND}, × 10", _APPEND)),
    Figure(name="time of upsert, × 10 rows", must=10.5, aim=None, value=ratio(f"{_UPSERT}, × 10", _UPSERT)),
    Figure(
        name="one bad record a page of 1,000, against clean pages",
        must=1.3,
        aim=1.1,
        value=ratio("engine upsert, one bad record a page", _UPSERT),
    ),
    Figure(
        name="claim, fence, cursor, counters and heartbeat of append, of the run",
        must=3,
        aim=None,
        value=_bookkeeping(_APPEND),
        unit="%",
    ),
)


def judged(results: Results) -> list[dict[str, Any]]:
    """Return each figure with its value and whether it is reached, or why it has none."""
    table = []
    for figure in FIGURES:
        row: dict[str, Any] = {
            "name": figure.name,
            "must": figure.must,
            "aim": figure.aim,
            "unit": figure.unit,
            "sign": "=" if figure.exact else "≥" if figure.at_least else "≤",
            "value": None,
            "reached": None,
            "note": "",
        }
        try:
            value = figure.value(results)
            row |= {"value": value, "reached": figure.is_reached(value), "note": figure.why}
        except NotMeasured as why:
            row["note"] = str(why)
        table.append(row)
    return table
