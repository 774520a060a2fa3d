"""The admin as an operator uses it: log in, Sync now, watch the run; and as somebody who may only look."""

import re

import pytest
from playwright.sync_api import Page, expect

# One site for the module, not one for each process of pytest.
pytestmark = pytest.mark.xdist_group("browser")


def log_in(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}/admin/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#user-tools")).to_contain_text(name)


def value(page: Page, label: str):
    """Return the value beside a label of a window."""
    return page.locator("label").filter(has_text=re.compile(f"^{label}:$")).locator("+ .readonly")


def expect_success(page: Page) -> None:
    """Wait until the page of a run, refreshing itself, shows its end."""
    expect(page).to_have_url(re.compile(r"/admin/ingestion/run/\d+/change/$"))
    page.evaluate("window.untouched = true")
    expect(page.locator(".state").first).to_have_text("succeeded")
    expect(value(page, "Read")).to_have_text("5,000")
    expect(value(page, "Rejected")).to_have_text("0")
    expect(page.get_by_text("This page refreshes itself")).to_have_count(0)
    assert page.evaluate("window.untouched"), "the page was loaded again instead of refreshing itself"


def test_an_operator_syncs_by_the_action_and_sees_the_run_succeed(site, page):
    log_in(page, site.url, "operator")
    page.get_by_role("link", name="Feeds").first.click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="photos", exact=True))
    row.get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("Sync now")
    page.get_by_role("button", name="Go", exact=True).click()
    message = page.locator(".messagelist .success")
    expect(message).to_have_text(re.compile(r"Feed photos: started run \d+\."))
    message.get_by_role("link").click()
    expect_success(page)
    expect(value(page, "Asked by")).to_have_text("admin: operator")
    page.goto(f"{site.url}/admin/ingestion/feedstate/")
    expect(row).to_contain_text("succeeded")
    expect(row).to_contain_text("5,000 read, 0 rejected")
    page.goto(f"{site.url}/admin/photos/photo/")
    assert page.title() == "403 Forbidden", "the operator may not view photos"


def test_an_operator_syncs_by_the_button_and_sees_the_run_succeed(site, page):
    log_in(page, site.url, "operator")
    page.get_by_role("link", name="Feeds").first.click()
    page.get_by_role("link", name="photos", exact=True).click()
    page.get_by_role("button", name="Sync now").click()
    expect(page.locator(".messagelist .success")).to_have_text(re.compile(r"Feed photos: started run \d+\."))
    expect_success(page)


def test_who_may_only_look_has_no_button_and_gets_403(site, page):
    log_in(page, site.url, "viewer")
    before = site.runs()
    page.goto(f"{site.url}/admin/ingestion/feedstate/")
    expect(page.get_by_role("link", name="photos", exact=True)).to_be_visible()
    assert page.get_by_label("Action:").count() == 0
    page.get_by_role("link", name="photos", exact=True).click()
    expect(value(page, "Target")).to_have_text("photos.Photo, upsert by remote_id")
    assert page.get_by_role("button", name="Sync now").count() == 0
    token = page.locator("input[name=csrfmiddlewaretoken]").first.input_value()
    selected = site.feed().rstrip("/").rpartition("/")[2]
    form = {"csrfmiddlewaretoken": token, "action": "sync_now", "index": "0", "_selected_action": selected}
    action = page.request.post(f"{site.url}/admin/ingestion/feedstate/", form=form)
    button = page.request.post(f"{site.url}{site.feed()}sync/", form={"csrfmiddlewaretoken": token})
    for response in (button, action):
        assert response.status == 403
        assert "CSRF" not in response.text()
    assert site.runs() == before


def test_with_the_broker_down_the_page_answers_and_the_run_is_made_up(site, page):
    """The worker's own broker is well: its dispatch finds the run that nobody was told about."""
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    log_in(page, site.cut_off, "operator")
    answer = page.goto(f"{site.cut_off}{site.feed()}change/")
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    page.get_by_role("button", name="Sync now").click()
    expect(page.locator(".messagelist .success")).to_have_text(re.compile(r"Feed photos: started run \d+\."))
    expect_success(page)
    assert "could not wake a worker; dispatch will" in site.stack.text("cut-off")
    assert refused == []
