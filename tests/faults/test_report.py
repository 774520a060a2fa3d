"""The table of the reliability page holds what ran, and nothing else."""

import pytest

from tests.faults.__main__ import DOCUMENT
from tests.faults.cases import CASES
from tests.faults.catalogue import Trial
from tests.faults.report import BEGIN, END, Outcome, record


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}{END}after\n")
    return path


def outcome(case, **options):
    trial = Trial(around=None, seed=7, strikes=2)
    trial.runs, trial.recovered, trial.fetched_again = 3, [1.0, 4.5], [2, 5]
    return Outcome(case=case, trial=trial, **options)


def row(page, case):
    [line] = [line for line in page.read_text().splitlines() if f"| {case.name} |" in line]
    return [cell.strip() for cell in line.strip("|").split("|")][2:8]


def test_each_outcome_takes_its_row_and_leaves_the_others(page):
    first, second, absent, never = CASES[:4]
    record(page, [outcome(first), outcome(absent)])
    record(page, [outcome(second, problem="broken"), outcome(absent, absent="takes root")])
    strikes = ["2" if case.is_random else "" for case in (first, second, absent)]
    assert row(page, first) == [strikes[0], "3", "passed", "2.8, 4.5", "5", "7"]
    assert row(page, second) == [strikes[1], "3", "FAILED", "2.8, 4.5", "5", "7"]
    assert row(page, absent) == [strikes[2], "3", "passed", "2.8, 4.5", "5", "7"]
    assert row(page, never) == ["", "", "not run yet", "", "", ""]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


def test_a_case_that_is_no_more_leaves_the_table(page):
    record(page, [outcome(CASES[0])])
    page.write_text(page.read_text().replace(CASES[0].name, "of former times"))
    record(page, [])
    assert "of former times" not in page.read_text()


def test_the_reliability_page_has_every_case_and_no_other():
    text = DOCUMENT.read_text()
    _, _, *rows = [line for line in text[text.index(BEGIN) : text.index(END)].splitlines() if line.startswith("|")]
    assert sorted(row.split("|")[2].strip() for row in rows) == sorted(case.name for case in CASES)
