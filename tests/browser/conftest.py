"""A real browser against real processes: gunicorn, a Celery worker and the sample API, on servers of their own."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.processes import Stack, running_stack, wait_until

# A loaded machine takes its time; whoever waits does so for a condition.
PATIENCE_MS = 60_000
CHROMIUM = shutil.which("chromium")
# No sandbox: as root there is none. The others keep a browser without a network from looking for one.
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
USERS = """
from tests.staff import VIEWS, staff
for name, permissions in (("operator", (*VIEWS, "ingestion.sync_feedstate")), ("viewer", VIEWS)):
    user = staff(name, *permissions)
    user.set_password(name)
    user.save()
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The admin of a running stack, and the same one cut off from its broker, with pages that allow own files only."""

    stack: Stack
    url: str
    cut_off: str

    def feed(self) -> str:
        ((pk,),) = self.stack.query("SELECT id FROM ingestion_feedstate WHERE name = 'photos'")
        return f"/admin/ingestion/feedstate/{pk}/"

    def runs(self) -> int:
        ((runs,),) = self.stack.query("SELECT count(*) FROM ingestion_run")
        return runs


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH: install Debian's package `chromium`")
    with running_stack(tmp_path_factory.mktemp("browser") / "data") as stack:
        api = stack.start_api()
        stack.manage("shell", "-v0", "-c", USERS)
        start_web(stack, "web", "config.wsgi", PHOTOS_API_URL=api)
        start_web(stack, "cut-off", "tests.browser.strict_wsgi", PHOTOS_API_URL=api, REDIS_URL="redis://127.0.0.1:1/0")
        stack.start_worker(PHOTOS_API_URL=api)
        yield Site(stack=stack, url=address(stack, "web"), cut_off=address(stack, "cut-off"))


def start_web(stack: Stack, name: str, application: str, **environment: str) -> None:
    options = ("--bind", "127.0.0.1:0", "--threads", "4", "--no-control-socket")
    stack.start(name, "gunicorn", application, *options, **environment)


def address(stack: Stack, name: str) -> str:
    """Wait for gunicorn to tell the port it got."""
    before = "Listening at: "
    wait_until(lambda: before in stack.text(name), what=f"the start of {name}")
    return stack.text(name).split(before)[1].split()[0]


# For one module: while Playwright's event loop is there, Django takes this thread for an asynchronous one and refuses
# queries. The tests here make none; those of other modules do.
@pytest.fixture(scope="module")
def browser(site) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
