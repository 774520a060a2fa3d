"""Loaded files in the admin: what is known of each, and who may let the next run read them again."""

import pytest

from ingestion.models import FeedState, SourceFile
from tests.ingestion.catalog import counts
from tests.ingestion.files.conftest import shelf  # noqa: F401 - a fixture
from tests.ingestion.pages import cells, page_of, text
from tests.staff import VIEWS, said, session

LIST = "/admin/ingestion/sourcefile/"
VIEW, FORGET = "ingestion.view_sourcefile", "ingestion.forget_sourcefile"


@pytest.fixture
def loaded(shelf):  # noqa: F811
    shelf.write("a.csv", 1, 2, 3)
    shelf.write("sub/b.csv", 4)
    shelf.sync(pattern="**/*.csv")
    return {file.name: file for file in SourceFile.objects.all()}


def post(client, *files):
    return client.post(LIST, {"action": "forget", "_selected_action": [file.pk for file in files]}, follow=True)


def test_the_list_tells_what_was_loaded(loaded):
    run = loaded["a.csv"].run
    newest, oldest = cells(session(*VIEWS, VIEW), f"{LIST}?feed__id__exact={run.feed_id}")
    assert {row["name"]: row["shown_records"] for row in (newest, oldest)} == {"a.csv": "3", "sub/b.csv": "1"}
    (row,) = [row for row in (newest, oldest) if row["name"] == "a.csv"]
    assert (row["shown_feed"], row["shown_size"]) == ("shelf", f"{loaded['a.csv'].size_bytes}")
    assert row["shown_loaded"].endswith(f"run {run.pk}")
    assert row["shown_version"].startswith(f"{loaded['a.csv'].size_bytes}-")
    assert loaded["a.csv"].version in text(session(*VIEWS, VIEW, name="bob"), page_of(loaded["a.csv"]))


def test_the_feed_s_page_leads_there_when_it_has_files(loaded):
    client = session(*VIEWS, VIEW)
    feed = loaded["a.csv"].feed
    assert f'href="{LIST}?feed__id__exact={feed.pk}"' in text(client, page_of(feed))
    photos = FeedState.objects.get_or_create(name="photos")[0]
    assert LIST + "?" not in text(client, page_of(photos))


def test_forgotten_files_are_read_again(loaded, shelf):  # noqa: F811
    response = post(session(VIEW, FORGET), loaded["a.csv"])
    assert said(response) == ["Feed shelf: forgot 1 file; the next run reads what is still there."]
    assert counts(shelf.sync(pattern="**/*.csv")) == {"read": 3, "unchanged": 3}
    assert SourceFile.objects.get(name="a.csv").records == 3


def test_without_the_permission_nothing_is_forgotten(loaded):
    client = session(VIEW)
    assert "Forget selected" not in client.get(LIST).text
    assert post(client, *loaded.values()).status_code == 403
    assert client.post(f"{LIST}{loaded['a.csv'].pk}/delete/", {"post": "yes"}).status_code == 403
    assert session(*VIEWS, name="bob").get(LIST).status_code == 403
    assert SourceFile.objects.count() == 2
