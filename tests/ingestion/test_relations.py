"""Relations that are found by natural keys: in every write mode, over whole runs, missing ones included."""

import uuid
from datetime import date

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingestion import feeds, pipeline, quarantine
from ingestion.cleaning import constant, related, text
from ingestion.drift import Watch
from ingestion.feeds import Append, History, Mirror, Replace, SoftDelete, Upsert
from ingestion.groups import compile_groups
from ingestion.models import Reject, Run
from tests.ingestion.albums import ALBUM, COLUMNS, PICTURE, albums, columns, pictures, reasons, refers
from tests.ingestion.catalog import counts, rows, written

pytestmark = pytest.mark.django_db(transaction=True)

MODES = {
    "append": Append,
    "upsert": lambda model: Upsert(model, key="code"),
    "replace": lambda model: Replace(model, key="code"),
    "replace without a key": Replace,
    "mirror": lambda model: Mirror(model, key="code"),
    "soft delete": lambda model: Mirror(model, key="code", delete=SoftDelete("gone_at")),
    "history": lambda model: History(model, key="code", valid_from="since", valid_to="until"),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_write_mode_finds_related_rows_and_writes_nothing_twice(catalog, mode):
    picture = PICTURE | {"gone_at": models.DateTimeField(null=True)}
    if mode == "history":
        picture = {"code": models.BigIntegerField(), "name": models.CharField(max_length=20)}
        picture |= {"since": models.DateTimeField(), "until": models.DateTimeField(null=True)}
    if mode == "append":
        picture |= {"code": models.BigIntegerField()}
    with albums(**picture) as (album, model):
        a, b = album.objects.create(code="a"), album.objects.create(code="b")
        pages = (pictures((1, "a"), (2, "b"), (3, "lost")), pictures((4, "a")))
        summary = catalog.sync(MODES[mode](model), *pages, columns=COLUMNS)
        assert counts(summary) == {"read": 4, "inserted": 3, "rejected": 1}
        assert rows(model, "code", "album_id") == [(1, a.pk), (2, b.pk), (4, a.pk)]
        assert reasons() == [("missing_relation", "album", "no photos.Album has code 'lost'")]
        before = written("photos_picture"), written("photos_album")
        summary = catalog.sync(MODES[mode](model), *pages, columns=COLUMNS)
        if mode == "append":
            assert counts(summary) == {"read": 4, "inserted": 3, "rejected": 1}
        else:
            assert counts(summary) == {"read": 4, "unchanged": 3, "rejected": 1}
            assert (written("photos_picture"), written("photos_album")) == before
            summary = catalog.sync(MODES[mode](model), pictures((1, "b"), (2, "b"), (4, "a")), columns=COLUMNS)
            changed = {"updated": 1} if mode != "replace without a key" else {"inserted": 1, "deleted": 1}
            assert counts(summary) == {"read": 3, "unchanged": 2} | changed


def test_one_statement_for_each_relation_and_chunk(catalog):
    with albums() as (album, model), CaptureQueriesContext(connection) as queries:
        album.objects.create(code="a")
        pages = [pictures(*((10 * page + number, "a") for number in range(10))) for page in range(3)]
        assert counts(catalog.sync(Upsert(model, key="code"), *pages, columns=COLUMNS)) == {"read": 30, "inserted": 30}
    assert sum('JOIN "photos_album"' in query["sql"] for query in queries) == 3


def test_a_feed_with_relations_is_encoded_in_groups(catalog):
    with albums() as (_, model):
        catalog.declare(Upsert(model, key="code"), columns=COLUMNS)
        assert compile_groups(feeds.resolve(feeds.get("catalog")).columns, Watch()) is not None


def test_a_missing_relation_is_replayed_once_its_row_is_there(catalog):
    with albums() as (album, model):
        catalog.sync(Upsert(model, key="code"), pictures((1, "a"), (2, "b")), columns=COLUMNS)
        made = album.objects.create(code="a")
        (run,) = quarantine.replay("catalog", Reject.objects.all())
        assert counts(run.summary()) == {"read": 2, "inserted": 1, "rejected": 1}
        assert rows(model, "code", "album_id") == [(1, made.pk)]
        assert list(Reject.objects.filter(resolved_at=None).values_list("key", "reason")) == [("2", "missing_relation")]
        album.objects.create(code="b")
        catalog.sync(Upsert(model, key="code"), pictures((1, "a"), (2, "b")), columns=COLUMNS)
        assert not Reject.objects.filter(resolved_at=None).exists()


def test_null_for_a_missing_row_is_counted_and_mended_by_the_next_run(catalog):
    with albums(to=refers(null=True)) as (album, model):
        page = pictures((1, "a"), (2, "b"), (3, "b"))
        album.objects.create(code="a")
        summary = catalog.sync(Upsert(model, key="code"), page, columns=columns("null"))
        assert (counts(summary), summary["coercions"]) == ({"read": 3, "inserted": 3}, {"album:null": 2})
        assert rows(model, "code", "album__code") == [(1, "a"), (2, None), (3, None)]
        album.objects.create(code="b")
        summary = catalog.sync(Upsert(model, key="code"), page, columns=columns("null"))
        assert (counts(summary), summary["coercions"]) == ({"read": 3, "updated": 2, "unchanged": 1}, {})


def test_a_missing_row_is_made_once_with_defaults(catalog):
    album = ALBUM | {
        "number": models.UUIDField(default=uuid.uuid4),
        "made_at": models.DateTimeField(),
        "kind": models.CharField(max_length=10, default="book"),
        "tags": models.JSONField(default=dict),
    }
    with albums(album) as (album, model):
        album.objects.create(code="a", title="here", made_at=timezone.now())
        rules = columns("create", defaults={"made_at": timezone.now, "title": "?"})
        pages = (pictures((1, "a"), (2, "b"), (3, "b"), (4, "c\\n\t")), pictures((5, "b")))
        summary = catalog.sync(Upsert(model, key="code"), *pages, columns=rules)
        assert (counts(summary), summary["coercions"]) == ({"read": 5, "inserted": 5}, {"album:created": 2})
        assert rows(model, "code", "album__code") == [(1, "a"), (2, "b"), (3, "b"), (4, "c\\n\t"), (5, "b")]
        made = album.objects.exclude(code="a")
        assert list(made.order_by("code").values_list("title", "kind", "tags")) == [("?", "book", {})] * 2
        assert len(set(made.values_list("number", flat=True))) == 2
        summary = catalog.sync(Upsert(model, key="code"), *pages, columns=rules)
        assert (counts(summary), summary["coercions"]) == ({"read": 5, "unchanged": 5}, {})


def test_a_record_without_a_value_gets_null_or_is_rejected(catalog):
    records = [{"code": 1, "album": {"code": None}}, {"code": 2, "album": None}, {"code": 3}]
    with albums(to=refers(null=True)) as (_, model):
        assert counts(catalog.sync(Upsert(model, key="code"), records, columns=COLUMNS)) == {"read": 3, "inserted": 3}
        assert rows(model, "album_id") == [None, None, None]
    with albums() as (album, model):
        rules = columns("create")
        assert counts(catalog.sync(Upsert(model, key="code"), records, columns=rules)) == {"read": 3, "rejected": 3}
        assert {(reason, field) for reason, field, _ in reasons()} == {("missing_value", "album")}
        assert not album.objects.exists()


def test_natural_values_are_cleaned_as_what_they_are_in_the_related_model(catalog):
    album = {"code": models.CharField(max_length=3, unique=True, choices=[("a", "A"), ("12", "twelve")])}
    with albums(album) as (album, model):
        album.objects.create(code="a")
        album.objects.create(code="12")
        rules = COLUMNS | {"album": related(text("album.code", strip=True), by="code")}
        page = pictures((1, " a "), (2, 12), (3, "long"), (4, "b"), (5, [1]))
        summary = catalog.sync(Upsert(model, key="code"), page, columns=rules)
        assert counts(summary) == {"read": 5, "inserted": 2, "rejected": 3}
        assert summary["coercions"] == {"album:number": 1, "album:strip": 1}
        assert [(reason, field) for reason, field, _ in reasons()] == [
            ("too_long", "album"),
            ("not_a_choice", "album"),
            ("wrong_type", "album"),
        ]


@pytest.mark.parametrize(
    ("field", "here", "sent"),
    [
        (models.BigIntegerField(unique=True), 7, "7"),
        (models.PositiveIntegerField(unique=True), 7, 7),
        (models.DateField(unique=True), date(2024, 2, 29), "2024-02-29T10:00:00Z"),
        (models.DecimalField(unique=True, max_digits=9, decimal_places=3), "1.500", 1.5),
        (models.UUIDField(unique=True), uuid.UUID(int=7), "{00000000-0000-0000-0000-000000000007}"),
        (models.GenericIPAddressField(unique=True), "::1", "0:0:0:0:0:0:0:1"),
        (models.CharField(unique=True, max_length=20), "a\\N\t\n\\.\r", "a\\N\t\n\\.\r"),
        (models.TextField(unique=True, db_collation="C"), "\\N", "\\N"),
    ],
)
def test_natural_keys_of_every_type(catalog, field, here, sent):
    with albums({"code": field}) as (album, model):
        made = album.objects.create(code=here)
        rules = columns("create")
        assert counts(catalog.sync(Append(model), pictures((1, sent)), columns=rules)) == {"read": 1, "inserted": 1}
        assert rows(model, "album_id") == [made.pk]
        assert album.objects.count() == 1


def test_the_database_says_which_values_are_equal(catalog):
    with albums({"code": models.DecimalField(max_digits=9, decimal_places=3, unique=True)}) as (album, model):
        page = pictures((1, "1.5"), (2, "1.50"), (3, "1.500"))
        summary = catalog.sync(Upsert(model, key="code"), page, columns=columns("create"))
        assert (counts(summary), summary["coercions"]) == ({"read": 3, "inserted": 3}, {"album:created": 1})
        assert rows(model, "album_id") == [album.objects.get().pk] * 3


def test_a_relation_to_another_field_and_columns_of_other_names(catalog):
    album = {
        "code": models.CharField(max_length=10, unique=True, db_column="Code of it"),
        "shelf": models.CharField(max_length=10, unique=True, db_column="the shelf's"),
    }
    with albums(album, to=refers(to_field="shelf", db_column="the album")) as (album, model):
        album.objects.create(code="a", shelf="x\\y")
        summary = catalog.sync(Upsert(model, key="code"), pictures((1, "a"), (2, "b")), columns=COLUMNS)
        assert counts(summary) == {"read": 2, "inserted": 1, "rejected": 1}
        assert rows(model, "album_id") == ["x\\y"]


SHARED = {"tenant": models.CharField(max_length=10), "code": models.IntegerField()}
UNIQUE = {"Album": {"constraints": [models.UniqueConstraint(fields=["tenant", "code"], name="tenant_code")]}}


@pytest.mark.parametrize("tenant", ["tenant", constant("acme")])
def test_a_natural_key_of_several_fields(catalog, tenant):
    rules = COLUMNS | {"album": related((tenant, "album.code"), by=("tenant", "code"), missing="create")}
    with albums(SHARED, to=refers(null=True), meta=UNIQUE) as (album, model):
        other = album.objects.create(tenant="other", code=7)
        acme = album.objects.create(tenant="acme", code=7)
        page = [*pictures((1, 7), (2, 8), (3, None), tenant="acme"), *pictures((4, 7), tenant="other")]
        summary = catalog.sync(Upsert(model, key="code"), page, columns=rules)
        assert (counts(summary), summary["coercions"]) == ({"read": 4, "inserted": 4}, {"album:created": 1})
        made = album.objects.get(tenant="acme", code=8)
        fourth = acme if tenant != "tenant" else other
        assert rows(model, "code", "album_id") == [(1, acme.pk), (2, made.pk), (3, None), (4, fourth.pk)]


def test_a_natural_key_with_a_relation_in_it(catalog):
    album = {"code": models.IntegerField(), "shelf": refers("self", null=True)}
    unique = {"Album": {"constraints": [models.UniqueConstraint(fields=["shelf", "code"], name="code_on_shelf")]}}
    rules = COLUMNS | {"album": related(("shelf", "album.code"), by=("shelf_id", "code"), missing="create")}
    with albums(album, meta=unique) as (album, model):
        shelf = album.objects.create(code=0)
        here = album.objects.create(code=7, shelf=shelf)
        album.objects.create(code=7)
        page = [*pictures((1, 7), (2, 8), shelf=shelf.pk), *pictures((3, 8), shelf=shelf.pk + 1000)]
        summary = catalog.sync(Upsert(model, key="code"), page, columns=rules)
        assert counts(summary) == {"read": 3, "inserted": 2, "rejected": 1}
        assert [(reason, field) for reason, field, _ in reasons()] == [("foreign_key_violation", "album")]
        assert rows(model, "code", "album_id") == [(1, here.pk), (2, album.objects.get(shelf=shelf, code=8).pk)]


def numbered(*, key):
    """Make pictures that are numbered within their album."""
    constraints = [models.UniqueConstraint(fields=key, name="number_in_album")]
    fields = {"number": models.IntegerField(), "name": models.CharField(max_length=20, null=True)}
    return albums(meta={"Picture": {"constraints": constraints}}, **fields)


def test_a_relation_in_the_key(catalog):
    rules = {"name": "name", "album": related("album.code", by="code"), "number": "code"}
    with numbered(key=["album", "number"]) as (album, model):
        a, b = album.objects.create(code="a"), album.objects.create(code="b")
        target = Mirror(model, key=("album", "number"), allow_delete_share=0.5)
        page = pictures((1, "a"), (1, "b"), (2, "b"), (2, "b"), (3, "lost"))
        summary = catalog.sync(target, page, columns=rules)
        assert counts(summary) == {"read": 5, "inserted": 3, "duplicates": 1, "rejected": 1}
        assert rows(model, "album_id", "number") == [(a.pk, 1), (b.pk, 1), (b.pk, 2)]
        # A record that is rejected for something else is there at the source, and so is its row.
        page = [*pictures((1, "a")), *pictures((1, "b"), name="x" * 21)]
        assert counts(catalog.sync(target, page, columns=rules)) == {
            "read": 2, "unchanged": 1, "deleted": 1, "rejected": 1,
        }  # fmt: skip
        assert rows(model, "album_id", "number") == [(a.pk, 1), (b.pk, 1)]
        # Nobody knows which row a record without a related row would be.
        summary = catalog.sync(target, pictures((1, "a"), (9, "lost")), columns=rules)
        assert summary["error"].startswith("delete_guard: 1 of 2 rows")


def test_rejects_of_a_relation_in_the_key_are_superseded(catalog):
    rules = {"name": "name", "album": related("album.code", by="code"), "number": "code"}
    with numbered(key=["album", "number"]) as (album, model):
        album.objects.create(code="a")
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE photos_picture ADD CONSTRAINT no_five CHECK (name <> 'five')")
        target = Upsert(model, key=("album", "number"))
        page = [*pictures((5, "a"), name="five"), *pictures((6, "a"), name="x" * 21), *pictures((7, "b"))]
        assert counts(catalog.sync(target, page, columns=rules)) == {"read": 3, "rejected": 3}
        keys = ["a, 5", "a, 6", "b, 7"]
        assert sorted(Reject.objects.values_list("key", flat=True)) == keys
        album.objects.create(code="b")
        page = pictures((5, "a"), (6, "a"), (7, "b"))
        assert counts(catalog.sync(target, page, columns=rules)) == {"read": 3, "inserted": 3}
        assert list(Reject.objects.values_list("resolution", flat=True)) == ["superseded"] * 3


def test_a_relation_that_is_the_key_alone(catalog):
    to = models.OneToOneField("Album", models.CASCADE, primary_key=True)
    rules = {"name": "name", "album": related("album.code", by="code")}
    with albums(to=to, name=models.CharField(max_length=20)) as (album, model):
        a, b = album.objects.create(code="a"), album.objects.create(code="b")
        target = Upsert(model, key="album")
        assert counts(catalog.sync(target, pictures((1, "a"), (2, "b")), columns=rules)) == {"read": 2, "inserted": 2}
        summary = catalog.sync(target, pictures((1, "a"), (3, "b"), (4, "b")), columns=rules)
        assert counts(summary) == {"read": 3, "updated": 1, "unchanged": 1, "duplicates": 1}
        assert rows(model, "album_id", "name") == [(a.pk, "picture 1"), (b.pk, "picture 4")]


def test_a_dry_run_leaves_no_made_row_behind(catalog):
    with albums() as (album, model):
        catalog.declare(Upsert(model, key="code"), pictures((1, "a")), columns=columns("create"))
        report = pipeline.run_here("catalog", dry_run=True)
        assert counts(report.summary) == {"read": 1, "inserted": 1}
        assert report.summary["coercions"] == {"album:created": 1}
        (difference,) = report.differences
        assert type(difference.after["album_id"]) is int
        assert not album.objects.exists()
        assert not model.objects.exists()


def test_rows_made_in_a_chunk_that_rolls_back_are_gone(catalog):
    limit = feeds.RejectLimit(records=0, share=0.0)
    with albums() as (album, model):
        page = [*pictures((1, "new")), *pictures((2, "newer"), name="x" * 21)]
        summary = catalog.sync(Upsert(model, key="code"), page, columns=columns("create"), reject_limit=limit)
        assert summary["error"].startswith("reject_limit")
        assert not album.objects.exists()
        assert Run.objects.get().coercions == {}


def test_records_whose_related_row_the_database_refuses_to_make_are_rejected_alone(catalog):
    rule = models.CheckConstraint(condition=~models.Q(code="bad"), name="not_bad")
    with albums(meta={"Album": {"constraints": [rule]}}) as (album, model):
        page = pictures((1, "good"), (2, "bad"), (3, "fine"), (4, "bad"))
        summary = catalog.sync(Upsert(model, key="code"), page, columns=columns("create"))
        assert counts(summary) == {"read": 4, "inserted": 2, "rejected": 2}
        assert summary["coercions"] == {"album:created": 2}
        assert [(reason, field) for reason, field, _ in reasons()] == [("check_violation", "album")] * 2
        assert "photos.Album was not made" in reasons()[0][2]
        assert rows(album, "code") == ["fine", "good"]
