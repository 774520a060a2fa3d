"""What the windows on feeds, runs and rejects show."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from ingestion.models import FeedState, Part, Reject, Run, State, Trigger
from tests.ingestion.pages import AT, FEEDS, REJECTS, RUNS, cells, make_reject, make_run, page_of, text
from tests.staff import VIEWS, session

pytestmark = pytest.mark.django_db


@pytest.fixture
def feed() -> FeedState:
    return FeedState.objects.get_or_create(name="photos")[0]


def test_the_feed_list_tells_how_each_feed_is_doing(feed, settings):
    settings.PHOTOS_API_URL = "https://ada:secret@photos.example.com:8443/v1?key=secret"
    make_run(feed)
    last = make_run(feed, State.FAILED, read=12_000, rejected=3, error="shape: no list\nsecond line")
    FeedState.objects.create(name="gone")
    gone, photos = cells(session(*VIEWS), FEEDS)
    assert photos["name"] == "photos"
    assert photos["shown_last"] == f"failed run {last.pk} 2026-11-22 03:04:05 , 1 min 15 s"
    assert photos["shown_outcome"] == "shape: no list 12,000 read, 3 rejected"
    assert photos["shown_source_and_target"] == (
        "JsonApi: https://photos.example.com:8443/v1 photos.Photo, upsert by remote_id"
    )
    assert gone["shown_last"] == "never ran"
    assert gone["shown_next"] == "not scheduled"
    assert gone["shown_source_and_target"] == "no installed app declares this feed –"


def test_the_feed_list_links_to_runs_and_rejects(feed):
    run = make_run(feed, rejected=3, read=3)
    make_reject(run)
    other = make_run(FeedState.objects.create(name="other"))
    make_reject(other)
    client = session(*VIEWS)
    shown = text(client, FEEDS)
    for url, model in (
        (f"/admin/ingestion/run/?feed__id__exact={feed.pk}", Run),
        (f"/admin/ingestion/reject/?feed__id__exact={feed.pk}", Reject),
        (f"/admin/ingestion/reject/?run__id__exact={run.pk}", Reject),
    ):
        assert f'href="{url}"' in shown
        listed = client.get(url).context["cl"].result_list
        assert [row.pk for row in listed] == [model.objects.get(feed=feed).pk]


def test_the_next_run_is_the_earliest_that_an_enabled_entry_starts(feed):
    PeriodicTask.objects.all().delete()
    for kwargs, seconds, enabled in (
        ('{"feed": "photos"}', 7200, True),
        ('{"feed": "photos"}', 3600, True),
        ('{"feed": "photos"}', 60, False),
        ('{"feed": "other"}', 60, True),
        ('["photos"]', 60, True),  # an operator's JSON that names no feed
        ('{"feed": 1}', 60, True),
    ):
        interval, _ = IntervalSchedule.objects.get_or_create(every=seconds, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.create(
            name=f"{kwargs} {seconds}", task="worker.sync", interval=interval, kwargs=kwargs, enabled=enabled
        )
    (photos,) = cells(session(*VIEWS), FEEDS)
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    shown = datetime.strptime(photos["shown_next"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(shown - in_an_hour) < timedelta(minutes=5)


@pytest.mark.parametrize(("value", "names"), [("failed", ["failed"]), ("succeeded", ["good"]), ("never", ["never"])])
def test_feeds_are_filtered_by_the_state_of_their_last_run(value, names):
    FeedState.objects.all().delete()
    good, failed, _ = (FeedState.objects.create(name=name) for name in ("good", "failed", "never"))
    make_run(good, State.FAILED)
    make_run(good)
    make_run(failed)
    make_run(failed, State.FAILED)
    assert [row["name"] for row in cells(session(*VIEWS), f"{FEEDS}?last={value}")] == names


def test_the_feed_page_shows_its_recent_runs(feed):
    runs = [make_run(feed, inserted=1200, updated=34, read=1234) for _ in range(12)]
    shown = text(session(*VIEWS), page_of(feed))
    assert [f">run {run.pk}<" in shown for run in runs] == [False, False, *[True] * 10]
    assert shown.count("1,234") == 20


def test_the_run_list_tells_what_each_run_did(feed):
    counts = {"read": 5000, "inserted": 1000, "updated": 20, "unchanged": 3900, "duplicates": 70, "rejected": 10}
    run = make_run(feed, State.FAILED, trigger=Trigger.ADMIN, requested_by="ada", error="shape: no list", **counts)
    (row,) = cells(session(*VIEWS), RUNS)
    assert row == {
        "number": f"{run.pk}",
        "shown_feed": "photos",
        "shown_state": "failed",
        "shown_asked": "2026-11-22 03:04:05 admin: ada",
        "shown_took": "1 min 15 s",
        "shown_read": "5,000",
        "shown_outcome": "shape: no list 1,000 inserted, 20 updated, 3,900 unchanged, 70 duplicates, 10 rejected",
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q={}", [0]), ("q=%23{}", [0]), ("q=quota", [1]), ("q=grace", [2]), ("q=99999999999999999999", []),
        ("q=nothing", []), ("state__exact=failed", [1]), ("trigger__exact=admin", [2]),
        ("requested_at__year=2025&requested_at__month=1", [2]),
    ],
)  # fmt: skip
def test_runs_are_found_by_number_word_and_filter(feed, query, found):
    runs = [
        make_run(feed),
        make_run(feed, State.FAILED, error="over quota"),
        make_run(feed, trigger=Trigger.ADMIN, requested_by="grace", requested_at=datetime(2025, 1, 2, tzinfo=UTC)),
    ]
    rows = cells(session(*VIEWS), f"{RUNS}?{query.format(runs[0].pk)}")
    assert [row["number"] for row in rows] == [f"{runs[index].pk}" for index in found]


def test_the_run_page_shows_everything_and_the_whole_error(feed):
    error = "shape: " + "x" * 3000 + "\n<script>alert(1)</script>"
    run = make_run(
        feed, State.FAILED, error=error, first_commit_at=AT + timedelta(seconds=2), requested_by="ada",
        pages=11, read=12_222, inserted=13, updated=14, unchanged=15, deleted=16, duplicates=17, rejected=18,
    )  # fmt: skip
    shown = text(session(*VIEWS), page_of(run))
    assert "x" * 3000 + "\n&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    for expected in (
        "schedule: ada",
        "03:04:05",
        "03:04:07",
        "03:05:20",
        "1 min 15 s",
        ">11<",
        ">12,222<",
        *map(str, range(13, 18)),
    ):
        assert expected in shown
    assert f'<a href="/admin/ingestion/reject/?run__id__exact={run.pk}">18</a>' in shown


@pytest.mark.parametrize("state", State)
def test_pages_refresh_themselves_while_a_run_is_active(feed, state):
    part = {"state": state, "leased_until": AT, "next_attempt_at": AT}
    run = make_run(feed, state)
    Part.objects.create(run=run, **part)
    client = session(*VIEWS)
    for url in (page_of(run), page_of(feed)):
        assert ("data-refresh-seconds" in text(client, url)) == (state in ("queued", "running", "waiting"))


def test_a_run_of_many_parts_sums_them_up_and_shows_those_that_are_looked_for_first(feed):
    run = make_run(feed, State.RUNNING)
    times = {"leased_until": AT, "next_attempt_at": AT}
    states = [State.SUCCEEDED] * 60 + [State.RUNNING] * 2 + [State.FAILED, State.WAITING]
    Part.objects.bulk_create(
        [
            *(Part(run=run, number=n, state=state, share={"list": n}, **times) for n, state in enumerate(states, 1)),
            *(Part(run=run, number=n, state=State.WAITING, waiting_for="its turn", share={}) for n in range(65, 1265)),
        ]
    )
    shown = text(session(*VIEWS), page_of(run))
    assert ("1 failed, 2 running, 1 waiting, 1,200 waiting for its turn, 60 succeeded; 50 of 1,264 are shown") in shown
    assert [int(number) for number in re.findall(r"{&quot;list&quot;: (\d+)}", shown)] == [
        63,
        61,
        62,
        64,
        *range(1, 47),
    ]


@pytest.mark.parametrize("state", State)
def test_each_state_has_a_badge_that_can_be_read(feed, state):
    """Contrast as in WCAG 2.2, 1.4.3: the badge brings both colours, so that the theme does not matter."""
    make_run(feed, state)
    assert f'<span class="state state-{state.value}">{state.value}</span>' in text(session(*VIEWS), RUNS)
    stylesheet = Path(finders.find("ingestion/admin.css")).read_text()
    rule = re.search(rf"\.state-{state.value} \{{ background: (#\w{{6}}); color: (#\w{{6}}); \}}", stylesheet)
    dark, light = sorted(map(luminance, rule.groups()))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_reject_list_tells_where_and_why(feed):
    run = make_run(feed)
    reject = make_reject(run, b"x" * 1234, field="title", key="7", detail="300 characters", created_at=AT)
    (row,) = cells(session(*VIEWS), REJECTS)
    assert row == {
        "shown_created": "2026-11-22 03:04:05",
        "shown_feed": "photos",
        "shown_where": f"run {run.pk} page 3, record 17",
        "reason": "too_long",
        "field": "title",
        "key": "7",
        "shown_detail": "300 characters",
        "shown_resolution": "open",
    }
    assert page_of(reject) in text(session(*VIEWS, name="bob"), REJECTS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("reason=too_long", ["7"]),
        ("field=url", ["8"]),
        ("q=7", ["7"]),
        ("q=NUL", ["8"]),
        ("q=nothing", []),
        ("reason=x", []),
    ],
)
def test_rejects_are_found_by_reason_field_key_and_detail(feed, query, found):
    run = make_run(feed)
    make_reject(run, key="7", field="title")
    make_reject(run, key="8", field="url", reason="nul", detail="a nul character")
    assert [row["key"] for row in cells(session(*VIEWS), f"{REJECTS}?{query}")] == found


def test_the_reject_page_shows_the_bytes_safely(feed):
    reject = make_reject(make_run(feed), b'{"title": "<script>\xff\xc3\xa9\x00\\x00"}')
    shown = text(session(*VIEWS), page_of(reject))
    assert '<pre class="verbatim">\n{&quot;title&quot;: &quot;&lt;script&gt;<span class="escape">\\xff</span>é' in shown
    assert 'é<span class="escape">\\x00</span>\\x00&quot;}</pre>' in shown
    assert "d" * 64 in shown


def test_the_reject_page_cuts_long_bytes_and_says_so(feed):
    reject = make_reject(make_run(feed), b"y" * 65_536, size_bytes=70_000)
    shown = text(session(*VIEWS), page_of(reject))
    assert "y" * 16_384 + "</pre>" in shown
    assert "y" * 16_385 not in shown
    assert "The first 16,384 of 70,000 bytes." in shown
