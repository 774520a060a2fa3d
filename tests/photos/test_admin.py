"""The window on the photos."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ingestion.admin import windows
from photos.models import Photo
from photos.sample_api import photo
from tests.staff import session, superuser

pytestmark = pytest.mark.django_db

LIST = "/admin/photos/photo/"
VIEW = "photos.view_photo"


def make_photos(*numbers: int) -> list[Photo]:
    received = [photo(number) for number in numbers]
    return Photo.objects.bulk_create(
        Photo(remote_id=r["id"], album_id=r["albumId"], title=f"title {r['id']}", url=r["url"], raw_data=r)
        for r in received
    )


def listed(client, query: str = "") -> list[int]:
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200
    return [photo.remote_id for photo in response.context["cl"].result_list]


def test_photos_are_for_those_who_may_view_them(client):
    assert client.get(LIST).status_code == 302
    assert session("ingestion.view_run", name="other").get(LIST).status_code == 403
    assert session(VIEW, name="views").get(LIST).status_code == 200


def test_not_even_a_superuser_can_edit_what_the_sync_would_overwrite():
    (stored,) = make_photos(1)
    client = superuser()
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{stored.pk}/change/", {"title": "mine", "_save": "Save"}).status_code == 403
    assert client.post(f"{LIST}{stored.pk}/delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [stored.pk], "post": "yes"}
    assert client.post(LIST, form).status_code == 403
    assert Photo.objects.get().title == "title 1"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [12, 11, 2, 1]),
        ("q=1", [1]),
        ("q=99", []),
        ("q=99999999999999999999", []),
        ("q=title+1", [12, 11, 1]),
        ("o=0", [1, 2, 11, 12]),
    ],
)
def test_photos_are_found_by_number_and_title(query, found):
    make_photos(1, 2, 11, 12)
    assert listed(session(VIEW), query) == found


def test_the_page_shows_the_record_as_received():
    (stored,) = make_photos(7)
    Photo.objects.update(raw_data={"id": 7, "title": "<b>é</b>"})
    shown = session(VIEW).get(f"{LIST}{stored.pk}/change/").text
    assert "{\n  &quot;id&quot;: 7,\n  &quot;title&quot;: &quot;&lt;b&gt;é&lt;/b&gt;&quot;\n}" in shown
    assert re.search(r"<time datetime=\S+>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d</time>", shown)


def test_the_list_fetches_no_records_and_counts_no_big_table(monkeypatch):
    monkeypatch.setattr(windows, "COUNTED_ROWS", 60)
    make_photos(*range(1, 62))
    client = session(VIEW)
    with CaptureQueriesContext(connection) as captured:
        shown = client.get(LIST).text
    assert "There are more photos: the first 60 are listed." in shown
    statements = [query["sql"] for query in captured]
    assert not [sql for sql in statements if "raw_data" in sql]
    assert [sql for sql in statements if "COUNT(*)" in sql and "LIMIT 61" in sql]
    assert not [sql for sql in statements if "COUNT(*)" in sql and "LIMIT 61" not in sql]
