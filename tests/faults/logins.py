"""Tokens that end in mid-run, and refresh tokens that are taken once: fault 17."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from cryptography.fernet import Fernet

from tests.faults.catalogue import Trial, case
from tests.faults.collection import Collection, told
from tests.faults.killing import error_of, strike_until_done
from tests.faults.surroundings import Surroundings, until_gone
from tests.ingestion.oauth_server import OAuthServer
from tests.processes import ROOT, wait_until
from tests.remote import Raw, Remote, Reply, Request

KEY = Fernet.generate_key().decode()
FIRST = "refresh-1"


class Tokens(OAuthServer):
    """Gives out tokens that are good for so many pages; each refresh token is taken once.

    With `forgives` it expects that replies get lost, as RFC 9700, 4.14.2 lets it: a refresh token is good until the
    tokens that it was exchanged for are used.
    """

    def __init__(self, source: Collection, *, pages: int, forgives: bool) -> None:
        super().__init__(client="feed", secret="hush", refresh=FIRST)
        self.source, self._pages, self._forgives = source, pages, forgives
        self._left: dict[str, int] = {}
        self._spent: dict[str, str] = {}
        self.sent: list[str] = []
        self.slowness = 0.0

    def answer(self, request: Request) -> Reply | Raw:
        if request.path == "/token":
            reply = self.token(request)
            # The token is spent, and its successor on its way.
            time.sleep(self.slowness)
            return reply
        if not self.accepts(request):
            return Reply(401)
        return self.source.answer(request)

    def accepts(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.refresh_tokens.discard(self._spent.pop(token, ""))
        self._left[token] = self._left.get(token, 0) - 1
        return self._left[token] >= 0

    def save_bearer_token(self, token, request, *args, **kwargs):
        super().save_bearer_token(token, request)
        self.sent.append(request.refresh_token)
        self._left[token["access_token"]] = self._pages
        if self._forgives:
            self.refresh_tokens.add(request.refresh_token)
            self._spent[token["access_token"]] = request.refresh_token

    @property
    def sent_again(self) -> int:
        """Return how often a token came that had been exchanged before: its successor was lost."""
        return len(self.sent) - len(set(self.sent))


@contextlib.contextmanager
def serving(around: Surroundings, tokens: Tokens) -> Iterator[None]:
    """Serve the records to whoever has a token; the first refresh token is stored."""
    with Remote(tokens.answer) as remote, told(around, UNRULY_API_URL=remote.url, CREDENTIAL_KEYS=KEY):
        log_in(around, FIRST)
        yield


def log_in(around: Surroundings, refresh: str) -> None:
    """Store a refresh token, as a person does."""
    command = [sys.executable, "manage.py", "credentials", "set", "tokens"]
    subprocess.run(
        command, cwd=ROOT, env=around.stack.environment, input=refresh, text=True, check=True, stdout=subprocess.DEVNULL
    )


@case(17, quick=1)
def _tokens_end(trial: Trial) -> None:
    """401 in mid-run, every seven pages; each refresh token is taken once."""
    around = trial.around
    tokens = Tokens(Collection("tokens", 10_000), pages=7, forgives=False)
    with serving(around, tokens), around.workers():
        around.fresh(tokens=10_000)
        run = trial.trigger("tokens")
        around.verdict(run)
    trial.notes.append(f"{len(tokens.sent)} refreshes")
    assert len(tokens.sent) >= 100 // 7
    assert tokens.sent_again == 0


@case(17, is_random=True)
def _killed_with_tokens(trial: Trial) -> None:
    """Pool child killed at random instants while tokens end every three pages, and their answers take 0.2 s."""
    around = trial.around
    tokens = Tokens(Collection("tokens", 4_000), pages=3, forgives=True)
    tokens.slowness = 0.2
    with serving(around, tokens), around.workers() as [worker]:
        strike_until_done(trial, worker.kill_child, feed="tokens", records=4_000)
    trial.notes.append(f"{len(tokens.sent)} refreshes, {tokens.sent_again} sent again")
    assert tokens.sent_again, "no worker was killed between refresh and store"


@case(17)
def _killed_between_refresh_and_store(trial: Trial) -> None:
    """Killed between refresh and store: the old token is taken again, or the run says that somebody has to log in."""
    around = trial.around
    for forgives in (True, False):
        tokens = Tokens(Collection("tokens", 2_000), pages=3, forgives=forgives)
        with serving(around, tokens), around.workers():
            around.fresh(tokens=2_000)
            point = around.arm("refreshed")
            run = trial.trigger("tokens")
            until_gone(point)
            if not forgives:
                wait_until(lambda run=run: around.has_ended(run), seconds=180, what="the failure")
                error = error_of(around, run)
                assert "log in again" in error, error
                assert "never stored" in error, error
                trial.notes.append(error)
                listed = around.stack.manage("credentials").stdout
                assert "log in again" in listed, listed
                tokens.refresh_tokens.add("refresh-again")
                log_in(around, "refresh-again")
                around.stack.manage("resume", str(run))
            around.verdict(run)
