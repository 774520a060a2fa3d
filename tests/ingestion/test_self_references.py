"""Rows that refer to others of their own table, by natural key and by id, when both come in one chunk."""

import pytest
from django.db import connection, models

from ingestion import chunks, pipeline, writing
from ingestion.cleaning import related
from ingestion.feeds import Append, Mirror, Upsert
from ingestion.models import Reject
from ingestion.preparation import Prepared
from ingestion.writing import Line, parents_first
from tests.ingestion.albums import pages_of, refers
from tests.ingestion.catalog import counts, rows

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS = {
    "slug": models.CharField(max_length=20, unique=True),
    "title": models.CharField(max_length=20, db_default=""),
    "parent": refers("self", null=True),
}


def columns(missing="reject", **options):
    return {"slug": "slug", "title": "title", "parent": related("parent", by="slug", missing=missing, **options)}


def wikipages(*pairs, title="t"):
    """Return records of pages: a slug, and the slug of its parent."""
    return [{"slug": slug, "parent": parent, "title": title} for slug, parent in pairs]


def tree(model):
    return dict(model.objects.values_list("slug", "parent__slug"))


def rejected():
    return sorted(Reject.objects.values_list("key", "reason"))


@pytest.mark.parametrize(
    "target", [Append, lambda model: Upsert(model, key="slug"), lambda model: Mirror(model, "slug")]
)
def test_parents_that_come_later_in_the_chunk_are_found(catalog, target):
    page = wikipages(("d", "c"), ("c", "b"), ("e", "a"), ("b", "a"), ("a", None))
    with pages_of(**FIELDS) as model:
        assert counts(catalog.sync(target(model), page, columns=columns())) == {"read": 5, "inserted": 5}
        assert tree(model) == {"a": None, "b": "a", "c": "b", "d": "c", "e": "a"}
        if target is not Append:
            assert counts(catalog.sync(target(model), page, columns=columns())) == {"read": 5, "unchanged": 5}


def test_what_hangs_on_a_missing_row_is_rejected_and_the_rest_is_loaded(catalog):
    page = wikipages(("c", "b"), ("b", "lost"), ("x", "a"), ("a", None))
    with pages_of(**FIELDS) as model:
        summary = catalog.sync(Upsert(model, key="slug"), page, columns=columns())
        assert counts(summary) == {"read": 4, "inserted": 2, "rejected": 2}
        assert rejected() == [("b", "missing_relation"), ("c", "missing_relation")]
        assert tree(model) == {"a": None, "x": "a"}


def test_only_what_is_really_missing_becomes_null(catalog):
    page = wikipages(("c", "b"), ("b", "lost"))
    with pages_of(**FIELDS) as model:
        summary = catalog.sync(Upsert(model, key="slug"), page, columns=columns("null"))
        assert (counts(summary), summary["coercions"]) == ({"read": 2, "inserted": 2}, {"parent:null": 1})
        assert tree(model) == {"c": "b", "b": None}


def test_rows_that_refer_to_each_other_in_a_circle_are_not_there_before_each_other(catalog):
    page = wikipages(("a", "b"), ("b", "a"), ("c", "c"), ("d", None))
    with pages_of(**FIELDS) as model:
        summary = catalog.sync(Upsert(model, key="slug"), page, columns=columns("null"))
        assert (counts(summary), summary["coercions"]) == ({"read": 4, "inserted": 4}, {"parent:null": 3})
        assert counts(catalog.sync(Upsert(model, key="slug"), page, columns=columns("null"))) == {
            "read": 4, "updated": 3, "unchanged": 1,
        }  # fmt: skip
        assert tree(model) == {"a": "b", "b": "a", "c": "c", "d": None}


def test_a_row_that_was_made_is_filled_when_it_comes(catalog):
    with pages_of(**FIELDS) as model:
        pages = wikipages(("b", "a")), wikipages(("a", None))
        summary = catalog.sync(Upsert(model, key="slug"), *pages, columns=columns("create"))
        assert summary["coercions"] == {"parent:created": 1}
        assert counts(summary) == {"read": 2, "inserted": 1, "updated": 1}
        assert rows(model, "slug", "title", "parent__slug") == [("a", "t", None), ("b", "t", "a")]


def test_the_last_line_of_a_key_wins_whatever_its_parent_is(catalog):
    page = [
        *wikipages(("a", "b"), title="first"),
        *wikipages(("b", None), ("c", "b")),
        *wikipages(("a", None), title="last"),
    ]
    with pages_of(**FIELDS) as model:
        summary = catalog.sync(Upsert(model, key="slug"), page, columns=columns())
        assert counts(summary) == {"read": 4, "inserted": 3, "duplicates": 1}
        assert rows(model, "slug", "title", "parent__slug") == [("a", "last", None), ("b", "t", None), ("c", "t", "b")]


def test_levels_beyond_the_limit_count_as_missing_and_are_replayable(catalog, monkeypatch):
    monkeypatch.setattr(writing, "LEVELS", 2)
    page = wikipages(("d", "c"), ("c", "b"), ("b", "a"), ("a", None))
    with pages_of(**FIELDS) as model:
        summary = catalog.sync(Upsert(model, key="slug"), page, columns=columns())
        assert counts(summary) == {"read": 4, "inserted": 2, "rejected": 2}
        assert rejected() == [("c", "missing_relation"), ("d", "missing_relation")]
        assert counts(catalog.sync(Upsert(model, key="slug"), page, columns=columns())) == {
            "read": 4, "inserted": 2, "unchanged": 2,
        }  # fmt: skip


def test_a_dry_run_shows_rows_of_every_turn_up_to_the_limit(catalog, monkeypatch):
    monkeypatch.setattr(chunks, "DIFF_ROWS", 2)
    page = wikipages(("d", "c"), ("c", "b"), ("b", "a"), ("a", None))
    with pages_of(**FIELDS) as model:
        catalog.declare(Upsert(model, key="slug"), page, columns=columns())
        report = pipeline.run_here("catalog", dry_run=True)
        assert [row.after["slug"] for row in report.differences] == ["a", "b"]
        assert counts(report.summary) == {"read": 4, "inserted": 4}


# By id

BY_ID = {"id": "id", "title": "title", "parent": "parent"}


def by_id(*pairs, title="t"):
    return [{"id": number, "parent": parent, "title": title} for number, parent in pairs]


@pytest.mark.parametrize("target", [Append, lambda model: Upsert(model, key="id")])
def test_a_child_is_loaded_although_a_record_beside_it_is_refused(catalog, target):
    """Its parent comes later in the chunk, which is taken apart because of another record."""
    page = by_id((1, 8), (2, None), (3, 99), (4, None), (5, 6), (6, 7), (7, None), (8, None))
    with pages_of(
        id=models.BigIntegerField(primary_key=True), **FIELDS | {"slug": models.TextField(null=True)}
    ) as model:
        summary = catalog.sync(target(model), page, columns=BY_ID)
        assert counts(summary) == {"read": 8, "inserted": 7, "rejected": 1}
        assert rejected()[0][1] == "foreign_key_violation"
        assert rows(model, "id", "parent_id") == [(1, 8), (2, None), (4, None), (5, 6), (6, 7), (7, None), (8, None)]


def test_the_children_of_a_refused_record_are_refused_too(catalog):
    page = by_id((1, 2), (2, 3), (3, None), (4, 3), (5, 9), (6, 5), (7, 1))
    with pages_of(
        id=models.BigIntegerField(primary_key=True), **FIELDS | {"slug": models.TextField(null=True)}
    ) as model:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE photos_wikipage ADD CONSTRAINT no_two CHECK (id <> 2)")
        summary = catalog.sync(Upsert(model, key="id"), page, columns=BY_ID)
        assert counts(summary) == {"read": 7, "inserted": 2, "rejected": 5}
        assert rejected() == [
            ("1", "foreign_key_violation"),
            ("2", "check_violation"),
            ("5", "foreign_key_violation"),
            ("6", "foreign_key_violation"),
            ("7", "foreign_key_violation"),
        ]
        assert rows(model, "id", "parent_id") == [(3, None), (4, 3)]


def line(text):
    return Line(
        text=text + "\n", key=None, page=Prepared(number=1, records=(), received_bytes=0, following=None), position=0
    )


@pytest.mark.parametrize(
    ("lines", "ordered"),
    [
        ([], []),
        (["1\t\\N", "2\t1"], ["1\t\\N", "2\t1"]),
        (["3\t2", "2\t1", "1\t\\N"], ["1\t\\N", "2\t1", "3\t2"]),
        (["1\t1", "2\t9", "3\t4", "4\t3"], ["1\t1", "2\t9", "4\t3", "3\t4"]),
    ],
)
def test_parents_come_first(lines, ordered):
    found = parents_first([line(text) for text in lines], [(1, 0)])
    assert [one.text[:-1] for one in found] == ordered


def test_parents_come_first_however_deep():
    deep = [line(f"{number}\t{number + 1}") for number in range(5000)]
    assert parents_first(deep, [(1, 0)]) == deep[::-1]
