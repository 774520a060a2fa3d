"""The admin as a person meets it: gunicorn, a login, a button."""

import contextlib
from collections.abc import Iterator

import httpx

from tests.faults.surroundings import Surroundings, free_port
from tests.processes import wait_until


class Admin:
    """A logged-in superuser's browser, without the browser."""

    def __init__(self, around: Surroundings, port: int) -> None:
        self._around = around
        self._client = httpx.Client(base_url=f"http://localhost:{port}", timeout=30, trust_env=False)

    def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self._client.get("/admin/login/").status_code == 200
        return False

    def log_in(self) -> None:
        answer = self._post("/admin/login/", username="root", password="of-tests")
        assert answer.status_code == 302, answer.text

    def sync(self, feed: str) -> None:
        """Press "Sync now" on the feed's page."""
        [(pk,)] = self._around.query("SELECT id FROM ingestion_feedstate WHERE name = %s", feed)
        answer = self._post(f"/admin/ingestion/feedstate/{pk}/sync/")
        assert answer.status_code == 302, answer.text

    def _post(self, path: str, **form: str) -> httpx.Response:
        token = self._client.cookies.get("csrftoken") or ""
        return self._client.post(path, data={"csrfmiddlewaretoken": token, **form})

    def close(self) -> None:
        self._client.close()


@contextlib.contextmanager
def web(around: Surroundings) -> Iterator[Admin]:
    """Start web and give a session in its admin."""
    port = free_port()
    around.query("DELETE FROM auth_user")
    around.stack.manage(
        "createsuperuser", "--noinput", "--username", "root", "--email", "", DJANGO_SUPERUSER_PASSWORD="of-tests"
    )
    # Files are found where the apps have them, as on a developer's machine: nobody has collected any.
    process = around.stack.start(
        "web", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "2", DEBUG="on"
    )
    admin = Admin(around, port)
    try:
        wait_until(admin.answers, what="web's start")
        admin.log_in()
        yield admin
    finally:
        admin.close()
        around.stack.stop(process)
