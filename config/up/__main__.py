"""`python -m config.up [--once]`: what `make up` runs when everything is installed."""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from rich.console import Console

from config.servers import ServerError
from config.servers.addresses import make_data_dir
from config.servers.processes import follow_parent
from config.up.children import ChildError
from config.up.first_run import failed
from config.up.interrupts import Interrupts
from config.up.stack import Stack, StartError

WATCH_SECONDS = 0.2


class Screen:
    """Short lines for whoever watches, each with the seconds since the command."""

    def __init__(self) -> None:
        self.started_at = float(os.environ.get("UP_STARTED_AT") or time.time())
        self._console = Console(highlight=False, soft_wrap=True)

    @property
    def seconds(self) -> float:
        """The seconds since the command."""
        return max(0.0, time.time() - self.started_at)

    def tell(self, text: str, style: str = "") -> None:
        """Print a line; on a terminal in the place of the first run's progress, which is drawn again below it."""
        if self._console.is_terminal:
            self._console.file.write("\r\x1b[2K")
        self._console.print(f"{self.seconds:5.1f} s  {text}", style=style, markup=False)


def main() -> int:
    """Bring the stack up; returns the exit status."""
    options = _options()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    interrupts = Interrupts()
    interrupts.install()
    if "UP_STARTED_AT" in os.environ:
        follow_parent(signal.SIGTERM)  # a killed make must not leave the stack behind
    screen = Screen()
    is_fine, summary = _up(screen, interrupts, once=options.once)
    if options.once:
        sys.stdout.write(json.dumps(summary) + "\n")
        sys.stdout.flush()
    if options.status_file:
        options.status_file.write_text("0" if is_fine else "1")
        return 0
    return 0 if is_fine else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m config.up", description="Bring the whole stack up.")
    parser.add_argument("--once", action="store_true", help="end after the first run; its summary is the last line")
    parser.add_argument("--status-file", type=Path, help="write the exit status there and end with 0 (for make)")
    return parser.parse_args()


def _up(screen: Screen, interrupts: Interrupts, *, once: bool) -> tuple[bool, dict[str, Any]]:
    """Come up, sync, and stay or end. Returns whether that went well, and the first run's summary."""
    is_fine, summary = False, failed("stopped before the first run had ended")
    try:
        django.setup()
        with _only_one(settings.DATA_DIR):
            stack = Stack(interrupts, screen.tell)
            try:
                summary = _come_up(stack, screen)
                is_fine = summary["state"] == "succeeded" or not once
                if not once:
                    screen.tell("Ctrl-C stops everything.")
                    _stay(stack)
            finally:
                screen.tell("Stopping.")
                stack.stop()
                screen.tell("Stopped.")
    except KeyboardInterrupt:
        pass
    except (ChildError, ServerError, StartError) as error:
        screen.tell(str(error), style="red")
        is_fine, summary = False, failed(str(error), screen.seconds)
    except Exception as error:  # noqa: BLE001 (whatever it was, the last line is still the summary)
        traceback.print_exc()
        is_fine, summary = False, failed(f"{type(error).__name__}: {error}", screen.seconds)
    return is_fine, summary


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Refuse to run beside another one in the same checkout.

    Raises:
        StartError: there is one.
    """
    make_data_dir(data_dir)
    with (data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StartError(f"`make up` is already running here (process {file.read().strip()}).") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _come_up(stack: Stack, screen: Screen) -> dict[str, Any]:
    """Start everything and wait for the first run's end. What the first row needs comes first."""
    stack.start_servers()
    screen.tell("PostgreSQL and Redis are running.")
    remote = stack.start_sample_api()
    call_command("migrate", verbosity=0)
    stack.start_worker()
    run = stack.sync()
    web = stack.start_web()
    stack.start_beat()
    screen.tell(f"The database is migrated; worker, beat and web are starting; photos come from {remote}")
    login = _login()
    stack.wait_for(f"{web}/healthz", "The web server")
    screen.tell(f"Admin: {web}/admin/  {login}", style="bold green")
    while run.is_running():
        stack.watch()
        time.sleep(WATCH_SECONDS)
    summary = run.summary()
    screen.tell(_describe(summary), style="" if summary["state"] == "succeeded" else "red")
    if (summary["inserted"] or summary["updated"]) and summary.get("first_commit_at"):
        seconds = datetime.fromisoformat(summary["first_commit_at"]).timestamp() - screen.started_at
        screen.tell(f"The first rows were committed {seconds:.1f} s after the command.")
    return summary


def _login() -> str:
    from config.up.login import ensure_login  # a module of models: Django must be set up

    login = ensure_login(settings.DATA_DIR / "admin.json")
    connections.close_all()
    return f"user {login.username}, password {login.password or '(the one you have set)'}"


def _describe(summary: dict[str, Any]) -> str:
    counts = ("read", "inserted", "updated", "unchanged", "rejected")
    text = f"{summary['feed']} {summary['state']}: " + ", ".join(f"{summary[name]:,} {name}" for name in counts)
    return f"{text}, in {summary['seconds']:.1f} s" + (f"; {summary['error']}" if summary["error"] else "")


def _stay(stack: Stack) -> None:
    """Watch the stack until an interrupt."""
    while True:
        stack.watch()
        time.sleep(WATCH_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
