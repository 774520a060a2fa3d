"""What keeps the tests that commit apart."""

import random

import pytest
from django.contrib.auth.models import Permission

from ingestion.models import FeedState, Run, State, Trigger
from photos.models import Photo
from tests.origin import Origin

pytestmark = pytest.mark.django_db(transaction=True)
NAMES = ["photos"]


@pytest.mark.parametrize("size", [1, 2 * 1024 * 1024], ids=["few bytes", "many bytes"])
def test_what_was_added_changed_and_deleted_is_as_it_was(size):
    origin = Origin()
    permissions = list(Permission.objects.order_by("pk").values())
    feeds = list(FeedState.objects.order_by("pk").values())
    assert [feed["name"] for feed in feeds] == NAMES
    assert permissions

    state = FeedState.objects.get()
    run = Run.objects.create(feed=state, state=State.QUEUED, trigger=Trigger.COMMAND)
    run.parts.create()
    FeedState.objects.update(name="renamed")
    Permission.objects.first().delete()
    text = random.Random(1).randbytes(size).hex()  # nothing that could be compressed
    Photo.objects.create(remote_id=1, album_id=1, title="t", url="u", thumbnail_url="", raw_data=text)

    origin.restore()
    assert list(Permission.objects.order_by("pk").values()) == permissions
    assert list(FeedState.objects.order_by("pk").values()) == feeds
    assert (Run.objects.count(), Photo.objects.count()) == (0, 0)
