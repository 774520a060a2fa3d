"""The figures that have to be reached, from samples written by hand."""

import pytest

from tests.bench import contenders
from tests.bench.contenders import ALL
from tests.bench.measuring import Sample
from tests.bench.results import FIGURES, Result, judged

BY_NAME = {contender.name: contender for contender in ALL}


def result(name, *seconds, rows=1000, cpu=1.0, peak_mib=100, written=None):
    samples = [
        Sample(
            seconds=s,
            cpu_seconds=cpu,
            peak_bytes=peak_mib * 1024 * 1024,
            process_seconds=s,
            written=written or {},
            notes={"bookkeeping_seconds": s / 50},
        )
        for s in seconds
    ]
    return Result(contender=BY_NAME[name], rows=rows, samples=samples)


def figure(name, *results):
    (row,) = (row for row in judged({r.contender.name: r for r in results}) if row["name"] == name)
    return row


def test_a_ratio_is_that_of_the_medians():
    row = figure(
        "append, HTTP to table, against the floor",
        result("engine append", 1.0, 9.0, 1.1),
        result("floor", 1.0, 0.5, 2.0),
    )
    assert row["value"] == pytest.approx(1.1)
    assert row["reached"] is True


@pytest.mark.parametrize(("seconds", "is_reached"), [(1.15, True), (1.16, False)])
def test_an_upper_bound_is_reached_at_the_bound_itself(seconds, is_reached):
    row = figure("append, HTTP to table, against the floor", result("engine append", seconds), result("floor", 1.0))
    assert row["reached"] is is_reached


@pytest.mark.parametrize(("seconds", "is_reached"), [(8.0, True), (7.9, False)])
def test_rows_per_second_are_compared_with_the_faster_one(seconds, is_reached):
    row = figure(
        "rows/s of append against dlt, the faster of its two formats",
        result("engine append", 1.0),
        result("dlt insert_values", 20.0),
        result("dlt csv", seconds),
    )
    assert row["value"] == pytest.approx(seconds)
    assert row["reached"] is is_reached


@pytest.mark.parametrize("source", ["GraphQL", "CSV", "CSV from S3"])
@pytest.mark.parametrize(("seconds", "is_reached"), [(10.0, True), (10.1, False)])
def test_every_kind_of_source_is_compared_with_rest(source, seconds, is_reached):
    row = figure(
        f"rows/s of {source} against REST",
        result("engine append", 7.0),
        result(f"engine append, {source}", seconds),
    )
    assert row["reached"] is is_reached


@pytest.mark.parametrize(("updated", "is_reached"), [(10, True), (11, False), (9, False)])
def test_exactly_one_percent_is_to_be_written_in_every_sample(updated, is_reached):
    name = "engine upsert, 1 % changed"
    samples = [
        *result(name, 1.0, written={"inserted": 0, "updated": 10, "deleted": 0}).samples,
        *result(name, 1.0, written={"inserted": 0, "updated": updated, "deleted": 0}).samples,
    ]
    row = figure("tuples written when 1 % changed", Result(contender=BY_NAME[name], rows=1000, samples=samples))
    assert row["reached"] is is_reached


def test_memory_is_compared_in_mebibytes():
    row = figure(
        "peak memory of upsert, × 10 rows against × 0.1",
        result("engine upsert, × 10", 1.0, peak_mib=109),
        result("engine upsert, × 0.1", 1.0, peak_mib=100),
    )
    assert (row["value"], row["reached"]) == (9, False)


def test_a_figure_without_its_contender_is_neither_reached_nor_missed():
    skipped = Result(contender=BY_NAME["sling"], rows=1000, problem="skipped: no such platform")
    row = figure("rows/s of append against sling (JSON lines)", result("engine append", 1.0), skipped)
    assert (row["value"], row["reached"], row["note"]) == (None, None, "sling: skipped: no such platform")


def test_a_figure_that_is_not_judged_says_why():
    row = figure(
        "the same from loopback", result("engine parts, 1 worker", 3.0), result("engine parts, 2 workers", 2.0)
    )
    assert (row["value"], row["must"], row["reached"]) == (1.5, None, None)
    assert row["note"].startswith("not judged: ")


def test_every_figure_names_contenders_that_exist():
    everybody = {name: result(name, 1.0) for name in BY_NAME}
    assert [row["name"] for row in judged(everybody) if row["value"] is None] == []
    assert len(judged(everybody)) == len(FIGURES)


def test_names_are_unique_and_every_floor_is_a_contender_of_the_same_size():
    assert len(BY_NAME) == len(ALL)
    for contender in ALL:
        assert BY_NAME[contender.floor].scale == contender.scale
        assert BY_NAME[contender.floor].load == "plain:floor"


def test_every_contender_is_in_a_table_of_the_report():
    from tests.bench.report import _GROUPS

    assert {member.name for _, members in _GROUPS for member in members} == {c.name for c in contenders.ALL}


def test_what_makes_a_run_durable_is_a_share_of_the_run():
    row = figure(
        "claim, fence, cursor, counters and heartbeat of append, of the run", result("engine append", 3.0, 1.0)
    )
    assert (row["value"], row["unit"], row["reached"]) == (pytest.approx(2), "%", True)
